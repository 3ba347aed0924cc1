/**
 * `vmm.ping`: who answers: version, process, features.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Answers at once, whatever is under way. */
export const vmmPing: Operation<"vmm.ping"> = {
  name: "vmm.ping",
  failure: "The VMM could not be pinged",
  concurrency: "immediate",
  run: ({ build }) =>
    jsonReply(JSON.stringify({
      build_version: build.buildVersion,
      version: build.version,
      pid: build.pid,
      features: build.features,
    })),
};
