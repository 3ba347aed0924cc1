import assert from "node:assert/strict";
import { StateError } from "@vmm/errors/state_error.ts";
import { RequestCounters } from "@vmm/log/counters.ts";
import { log } from "@vmm/log/logger.ts";
import { type BodyReader, makeRouter } from "./router.ts";
import { type ApiCommand, EMPTY_REPLY, jsonReply } from "./command.ts";
import { OperationError } from "./operation_error.ts";
import { OPERATIONS } from "./operation_table.ts";
import { PassedDescriptors } from "./passed_descriptors.ts";
import { ROUTES } from "./routes.ts";
import { SITUATIONS, STATE_MATRIX } from "./state_matrix.ts";

log.configure({ verbosity: -2 });

const bodies: BodyReader = {
  readBody: (_operation, text) => {
    const json = new TextDecoder().decode(text);
    return json === "bad"
      ? { ok: false, message: "expected value at line 1 column 1" }
      : { ok: true, body: JSON.parse(json) };
  },
  descriptorsFit: (operation, _body, count) => operation !== "vm.add-device" || count <= 1,
};

function router(answer: (command: ApiCommand) => unknown = () => EMPTY_REPLY) {
  const commands: ApiCommand[] = [];
  const counters = new RequestCounters();
  const route = makeRouter({
    // deno-lint-ignore no-explicit-any
    send: (command) => (commands.push(command), Promise.resolve().then(() => answer(command))) as any,
    bodyReader: () => Promise.resolve(bodies),
    counters,
  });
  const request = (
    method: string,
    path: string,
    body = "",
    descriptors?: PassedDescriptors,
    isOwn?: boolean,
  ) => route({ method, path, body: new TextEncoder().encode(body) }, descriptors, isOwn);
  return { request, commands, counters };
}

Deno.test("router answers unknown paths with 404, queries and trailing slashes included", async () => {
  const { request, commands } = router();
  for (const path of ["/", "", "/api/v1/vmm.ping/", "/api/v1/vmm.ping?a=b", "/api/v1/toString", "vmm.ping"]) {
    assert.deepEqual(await request("GET", path), { status: 404, body: '["Not Found"]' });
  }
  assert.deepEqual(commands, []);
});

Deno.test("router answers misuse of an endpoint with 400, with a message or without", async () => {
  const { request, commands } = router();
  const message = { status: 400, body: '["Bad Request"]' };
  const silent = { status: 400, body: "" };
  assert.deepEqual(await request("PUT", "/api/v1/vmm.ping"), message);
  assert.deepEqual(await request("PATCH", "/api/v1/vmm.ping"), message);
  assert.deepEqual(await request("DELETE", "/api/v1/vm.counters"), silent);
  assert.deepEqual(await request("GET", "/api/v1/vm.boot"), message);
  assert.deepEqual(await request("PATCH", "/api/v1/vm.boot"), silent);
  assert.deepEqual(await request("DELETE", "/api/v1/vm.create"), message);
  assert.deepEqual(await request("PUT", "/api/v1/vm.boot", "{}"), message);
  assert.deepEqual(await request("PUT", "/api/v1/vm.create"), silent);
  assert.deepEqual(await request("PUT", "/api/v1/vm.add-disk"), message);
  assert.deepEqual(commands, []);
});

Deno.test("router answers 200 with text, 204 without, and 200 without for vmm.shutdown", async () => {
  const { request } = router(({ operation }) => operation === "vm.info" ? jsonReply('{"a":1}') : EMPTY_REPLY);
  assert.deepEqual(await request("GET", "/api/v1/vm.info", "ignored"), { status: 200, body: '{"a":1}' });
  assert.deepEqual(await request("PUT", "/api/v1/vm.boot"), { status: 204 });
  assert.deepEqual(await request("PUT", "/api/v1/vmm.shutdown", "ignored"), { status: 200, body: "" });
});

Deno.test("router reports bodies that cannot be read, and passes on those that can", async () => {
  const { request, commands } = router();
  assert.deepEqual(await request("PUT", "/api/v1/vm.resize", "bad"), {
    status: 400,
    body: '["Failed to deserialize JSON","expected value at line 1 column 1"]',
  });
  await request("PUT", "/api/v1/vm.resize", '{"desired_vcpus":2}');
  assert.deepEqual(commands.map(({ body }) => body), [{ desired_vcpus: 2 }]);
});

Deno.test("router maps errors to statuses by their direct cause", async () => {
  const failing = (cause: unknown) =>
    router(() => {
      throw new OperationError("The VM could not boot", cause);
    }).request("PUT", "/api/v1/vm.boot");
  assert.deepEqual(await failing(StateError.configMissing()), {
    status: 404,
    body: '["Error from API","The VM could not boot","VM config is missing"]',
  });
  assert.equal((await failing(new Error("wrapped", { cause: StateError.notCreated() }))).status, 500);
  assert.deepEqual(await failing(StateError.resizePending()), { status: 429, body: '["Too Many Requests"]' });
});

Deno.test("router closes descriptors nobody kept, whatever the answer", async () => {
  const closed: number[] = [];
  const pass = (...fds: number[]) => new PassedDescriptors(fds, (fd) => closed.push(fd));
  const { request } = router(({ operation, descriptors }) => {
    if (operation === "vm.add-net") descriptors!.keep();
    return EMPTY_REPLY;
  });
  await request("PUT", "/api/v1/vm.add-net", "{}", pass(1, 2));
  assert.deepEqual(closed, []);
  await request("GET", "/nowhere", "", pass(3));
  await request("PUT", "/api/v1/vm.add-disk", "{}", pass(4));
  assert.deepEqual(await request("PUT", "/api/v1/vm.add-device", "{}", pass(5, 6)), {
    status: 400,
    body: '["Bad Request"]',
  });
  assert.deepEqual(closed, [3, 4, 5, 6]);
});

Deno.test("router counts requests by endpoint and status, unknown paths together", async () => {
  const { request, counters } = router();
  await request("PUT", "/api/v1/vm.boot");
  await request("PUT", "/api/v1/vm.boot", "{}");
  await request("GET", "/a");
  await request("GET", "/b");
  assert.deepEqual([...counters.statuses().get("vm.boot")!], [[204, 1], [400, 1]]);
  assert.deepEqual([...counters.statuses().get("unknown")!], [[404, 2]]);
});

Deno.test("router answers requests of its own program and does not count them", async () => {
  const { request, commands, counters } = router();
  assert.equal((await request("PUT", "/api/v1/vm.boot", "", undefined, true)).status, 204);
  assert.equal(commands.length, 1);
  assert.equal(counters.statuses().size, 0);
  assert.equal(counters.latency().size, 0);
});

Deno.test("routes, operations and state matrix cover the same operations", () => {
  const names = Object.keys(OPERATIONS).sort();
  assert.equal(names.length, 31);
  assert.deepEqual(ROUTES.map(({ operation }) => operation).sort(), names);
  assert.deepEqual(Object.keys(STATE_MATRIX).sort(), names);
  for (const row of Object.values(STATE_MATRIX)) assert.equal(row.length, SITUATIONS.length);
  for (const [name, operation] of Object.entries(OPERATIONS)) assert.equal(operation.name, name);
});
