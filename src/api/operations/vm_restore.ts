/**
 * `vm.restore`: makes a VM from a saved one.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §8.
 */
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import type { Operation } from "../operation.ts";
import { snapshotFolder } from "../saved_files.ts";

/** Checks its input and the state; reading saved state is not there yet. */
export const vmRestore: Operation<"vm.restore"> = {
  name: "vm.restore",
  failure: "The VM could not be restored",
  concurrency: "exclusive",
  run(_vmm, { body }) {
    snapshotFolder(body.source_url, "Cannot restore VM");
    throw new UnsupportedError(
      "Restoring a VM",
      `there is no reader for the saved state at "${body.source_url}"`,
    );
  },
};
