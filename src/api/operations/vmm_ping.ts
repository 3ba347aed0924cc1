/**
 * `vmm.ping`: who answers: version, process, features.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { type ApiReply, jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";
import type { BuildInfo } from "../vmm.ts";

let answered: { build: BuildInfo; reply: ApiReply } | undefined;

function replyOf(build: BuildInfo): ApiReply {
  return jsonReply(JSON.stringify({
    build_version: build.buildVersion,
    version: build.version,
    pid: build.pid,
    features: build.features,
  }));
}

/** Answers at once, whatever is under way; always the same, so made once. */
export const vmmPing: Operation<"vmm.ping"> = {
  name: "vmm.ping",
  failure: "The VMM could not be pinged",
  concurrency: "immediate",
  run({ build }) {
    if (answered?.build !== build) answered = { build, reply: replyOf(build) };
    return answered.reply;
  },
};
