/**
 * `vm.counters`: counters of every device that counts.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Answers at once unless a mutation is half done. 64-bit values are exact. */
export const vmCounters: Operation<"vm.counters"> = {
  name: "vm.counters",
  failure: "The VM info is not available",
  concurrency: "settled",
  run(vmm) {
    const devices = Object.entries(vmm.wantInstance().counters()).map(([id, counters]) => {
      const values = Object.entries(counters).map(([name, value]) => `${JSON.stringify(name)}:${value}`);
      return `${JSON.stringify(id)}:{${values.join(",")}}`;
    });
    return jsonReply(`{${devices.join(",")}}`);
  },
};
