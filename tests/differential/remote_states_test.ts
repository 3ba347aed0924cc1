/**
 * Every sub-command of the remote client against the original's server, in every state of the VM, beside the original's client.
 *
 * @module
 */
import assert from "node:assert/strict";
import { callOurs, callReference, REFERENCE_REMOTE } from "./remote_calls.ts";
import { argumentsFor, CALLS, comparable, RemoteServer, STATES, stepsTo } from "./remote_states.ts";
import { REFERENCE_VMM } from "./reference_vmm.ts";

for (const state of STATES) {
  const name = `VM ${state}: every sub-command does what the original's client does`;
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_REMOTE === undefined,
    fn: async () => {
      for (const call of CALLS) {
        const results = await Promise.all([callReference, callOurs].map(async (run) => {
          await using original = new RemoteServer(REFERENCE_VMM!);
          await original.prepare(stepsTo(state, original));
          return comparable(await run(argumentsFor(call, original)), original.directory);
        }));
        assert.deepEqual(results[1], results[0], JSON.stringify(call));
      }
    },
  });
}
