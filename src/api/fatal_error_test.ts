import assert from "node:assert/strict";
import { StateError } from "@vmm/errors/state_error.ts";
import { fatalErrorText } from "./fatal_error.ts";
import { OperationError } from "./operation_error.ts";

Deno.test("fatalErrorText() numbers the chain, without the words only the API uses", () => {
  const failed = new OperationError("The VM could not boot", StateError.configMissing());
  assert.equal(
    fatalErrorText("Cloud Hypervisor", new Error("Error booting VM", { cause: failed })),
    "Error: Cloud Hypervisor exited with the following chain of errors:\n" +
      "  0: Error booting VM\n  1: The VM could not boot\n  2: VM config is missing\n",
  );
});

Deno.test("fatalErrorText() shows a single message alone", () => {
  assert.equal(
    fatalErrorText("Nephos", new Error("No")),
    "Error: Nephos exited with the following error:\n  No\n",
  );
  assert.match(fatalErrorText("Nephos", undefined), /Unknown error/);
});
