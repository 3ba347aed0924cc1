import assert from "node:assert/strict";
import { assertInternal, BugError } from "@vmm/errors/bug_error.ts";
import { ConfigError } from "@vmm/errors/config_error.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { HostError } from "@vmm/errors/host_error.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import { messagesOf, subjectOf } from "@vmm/errors/vmm_error.ts";

const noFile = () =>
  new HostError({
    messages: ["Cannot open kernel file"],
    errnoName: "ENOENT",
    errno: 2,
    errnoText: "No such file or directory",
    call: "open",
    path: "/missing",
  });

Deno.test("ConfigError puts its context above the rule's own messages", () => {
  const error = new ConfigError({
    messages: ["Payload configuration is not bootable", "No bootitem provided: neither firmware nor kernel"],
    fieldPath: "payload",
  });
  assert.deepEqual(error.chain(), ["Failed to validate config", ...error.messages]);
  assert.equal(error.status, 400);
  assert.equal(error.code, "CONFIG_INVALID");
  assert.equal(error.name, "ConfigError");
});

Deno.test("ConfigError with status 409 is a conflict and may have no context", () => {
  const error = new ConfigError({
    messages: ["Identifier x is not unique"],
    fieldPath: "disks[1].id",
    value: "x",
    status: 409,
    context: [],
  });
  assert.equal(error.code, "CONFIG_CONFLICT");
  assert.deepEqual(error.chain(), ["Identifier x is not unique"]);
});

Deno.test("HostError ends its chain in the errno text", () => {
  assert.deepEqual(noFile().chain(), ["Cannot open kernel file", "No such file or directory (os error 2)"]);
});

Deno.test("ContextError keeps the cause's code and answers 500", () => {
  const error = new ContextError(
    ["Error from device manager", "Cannot create device"],
    StateError.notCreated(),
  );
  assert.deepEqual(error.chain(), ["Error from device manager", "Cannot create device", "VM is not created"]);
  assert.equal(error.code, "VM_NOT_CREATED");
  assert.equal(error.status, 500);
  assert.deepEqual(new ContextError(["A"], noFile()).chain(), ["A", ...noFile().chain()]);
});

Deno.test("StateError factories carry the statuses of the API", () => {
  assert.equal(StateError.notCreated().status, 404);
  assert.equal(StateError.configMissing().status, 404);
  assert.equal(StateError.noDeviceToRemove('a"b').message, 'No device with id "a"b" to remove');
  assert.equal(StateError.resizePending().status, 429);
  assert.equal(StateError.alreadyCreated().status, 500);
  assert.deepEqual(
    StateError.invalidTransition(
      ["Cannot pause VM", "Failed to pause migratable component"],
      "Paused",
      "Paused",
    )
      .chain(),
    [
      "Cannot pause VM",
      "Failed to pause migratable component",
      "Invalid transition: InvalidStateTransition(Paused, Paused)",
    ],
  );
});

Deno.test("messagesOf() walks foreign errors, strings and cycles", () => {
  assert.deepEqual(messagesOf(new Error("a", { cause: new Error("b", { cause: "c" }) })), ["a", "b", "c"]);
  assert.deepEqual(messagesOf(undefined), []);
  const cyclic = new Error("again");
  cyclic.cause = cyclic;
  assert.equal(messagesOf(cyclic).length, 32);
});

Deno.test("subjectOf() finds what the root's system call was about", () => {
  const root = Object.assign(new Error("No such file"), { call: "open", subject: "/no/such" });
  assert.equal(subjectOf(new Error("Cannot open", { cause: root })), 'open "/no/such"');
  assert.equal(subjectOf(new Error("a", { cause: "b" })), undefined);
  const cyclic = new Error("again");
  cyclic.cause = cyclic;
  assert.equal(subjectOf(cyclic), undefined);
});

Deno.test("assertInternal() throws BugError only for a false condition", () => {
  assertInternal(true, "never");
  assert.throws(() => assertInternal(false, "lost"), BugError);
});

Deno.test("UnsupportedError says what and why", () => {
  assert.deepEqual(new UnsupportedError("Post-copy migration", "userfaultfd is missing").chain(), [
    "Post-copy migration is not supported: userfaultfd is missing",
  ]);
});
