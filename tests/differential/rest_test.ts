/**
 * The REST API beside the original: the same bytes to both programs, the same bytes back.
 *
 * Ours is the built program under its drop-in name. Differences that are meant are listed in `docs/differences.md` and in
 * `MEANT` below.
 */
import assert from "node:assert/strict";
import { bodySchema, type OperationWithBody } from "@vmm/api/body_reader.ts";
import { ROUTES } from "@vmm/api/routes.ts";
import { testWith } from "@tests/framework/programs.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { Vm } from "@tests/framework/vm.ts";
import { DIALECT_CASES } from "@tests/conformance/dialect_cases.ts";
import { converse, readGoldenDialect } from "@tests/conformance/golden_dialect.ts";
import { damagedBody, Random, validBody } from "./bodies.ts";

const SEED = Number(Deno.env.get("DIFFERENTIAL_SEED") ?? 1);
/** Bodies per endpoint. */
const CASES = Number(Deno.env.get("DIFFERENTIAL_CASES") ?? 60);

const BASE = {
  cpus: { boot_vcpus: 2, max_vcpus: 4 },
  memory: { size: 0, zones: [{ id: "zone", size: 1 << 27, shared: true }] },
  payload: { kernel: "/nonexistent" },
  balloon: { size: 0 },
  disks: [{ id: "disk", path: "/nonexistent" }],
  serial: { mode: "Null" },
  console: { mode: "Off" },
};

/** Endpoints whose outcome in the cold state does not need machinery. */
const COLD_ENDPOINTS: readonly OperationWithBody[] = [
  "vm.resize",
  "vm.resize-zone",
  "vm.resize-disk",
  "vm.add-device",
  "vm.add-user-device",
  "vm.add-disk",
  "vm.add-fs",
  "vm.add-pmem",
  "vm.add-net",
  "vm.add-vdpa",
  "vm.add-vsock",
  "vm.add-generic-vhost-user",
  "vm.remove-device",
  "vm.snapshot",
  "vm.coredump",
  "vm.restore",
  "vm.send-migration",
];

/** Answers of ours that differ on purpose. */
const MEANT = [
  // Counts from 2^53 on are refused when they are read: no machine has as many.
  /invalid value: integer `\d+`, expected usize below 2\^53/,
];

/** Both programs. */
interface Pair {
  readonly ours: Vm;
  readonly theirs: Vm;
}

async function withPair(body: (pair: Pair) => Promise<void>): Promise<void> {
  await using theirs = await Vm.start({ program: "reference" });
  await using ours = await Vm.start({ program: "cloud-hypervisor" });
  await body({ ours, theirs });
}

const needs = { binary: true, reference: true };
const ATTEMPTS = 20;
const path = (vm: Vm) => vm.api.socketPath;

/** A request that is always answered: a busy machine may need longer than the silence that ends a conversation. */
async function answered(socketPath: string, text: string): Promise<string[]> {
  for (let attempt = 1;; attempt++) {
    const answers = await converse(socketPath, [text]);
    if (answers[0] !== "" || attempt === ATTEMPTS) return answers;
  }
}

testWith(needs, "REST beside the original: every method with every body on every endpoint", async () => {
  await withPair(async ({ ours, theirs }) => {
    const differences: unknown[] = [];
    for (const { operation } of ROUTES) {
      for (const method of ["GET", "PUT", "PATCH", "DELETE"]) {
        for (const body of ["", "{}", "[", "null", '{"id":1}']) {
          const changes = (operation === "vmm.shutdown" || operation === "vm.create") && method === "PUT";
          if (changes || (operation === "vm.receive-migration" && body === "null")) continue;
          const text =
            `${method} /api/v1/${operation} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
          const expected = await answered(path(theirs), text);
          const actual = await converse(path(ours), [text], expected);
          if (actual[0] !== expected[0]) differences.push({ text, actual, expected });
        }
      }
    }
    assert.deepEqual(differences, []);
  });
});

testWith(needs, "REST beside the original: the drop-in dialect", async () => {
  await withPair(async ({ ours, theirs }) => {
    const recorded = readGoldenDialect();
    for (const [name, parts] of Object.entries(DIALECT_CASES)) {
      const expected = await converse(path(theirs), parts, recorded[name]);
      assert.deepEqual(await converse(path(ours), parts, expected), expected, name);
    }
  });
});

const MAX_CONNECTIONS = 10;
const PING = "/api/v1/vmm.ping";

/** What the connection after the last that is taken reads, and the status of one after another was closed. */
async function crowd(vm: Vm): Promise<unknown> {
  using staying = new DisposableStack();
  using leaving = new DisposableStack();
  const open: HttpConnection[] = [];
  while (open.length < MAX_CONNECTIONS) {
    const connection = (open.length === 0 ? leaving : staying).use(await HttpConnection.open(path(vm)));
    assert.equal((await connection.request("GET", PING)).status, 200, `connection ${open.length}`);
    open.push(connection);
  }
  const surplus = await Deno.connect({ transport: "unix", path: path(vm) });
  // A server that took it would wait for a request: this ends it.
  await surplus.closeWrite().catch(() => {});
  const told = await new Response(surplus.readable).text();
  assert.equal((await open[1].request("GET", PING)).status, 200, "the others are not disturbed");
  leaving.dispose();
  await eventually("a free place", async () => {
    using connection = await HttpConnection.open(path(vm));
    return await connection.request("GET", PING).then(({ status }) => status === 200, () => false);
  });
  return told;
}

testWith(needs, "REST beside the original: the connection beyond the tenth", async () => {
  await withPair(async ({ ours, theirs }) => {
    const expected = await crowd(theirs);
    assert.match(String(expected), /^HTTP\/1\.1 503/);
    assert.equal(await crowd(ours), expected);
  });
});

/** Status and text of one request on a fresh cold VM, and the configuration it leaves. */
async function outcome(vm: Vm, operation: string, body: string): Promise<string> {
  await vm.api.mustPut("vm.create", BASE);
  const answer = await vm.api.put(operation, body);
  const info = await vm.api.get("vm.info");
  await vm.api.mustPut("vm.delete");
  return `${answer.status} ${answer.body}\n${info.status} ${info.body}`;
}

/** The part of `text` where it leaves `other`. */
function around(text: string, other: string): string {
  let at = 0;
  while (at < text.length && text[at] === other[at]) at++;
  return text.slice(Math.max(0, at - 60), at + 100);
}

for (const operation of COLD_ENDPOINTS) {
  testWith(needs, `REST beside the original: ${operation} on a VM that is not running`, async () => {
    await withPair(async (pair) => {
      const random = new Random(SEED);
      const schema = bodySchema(operation);
      const differences: unknown[] = [];
      for (let i = 0; i < CASES; i++) {
        const valid = validBody(schema, random);
        const body = i % 2 === 0 ? valid : damagedBody(valid, random);
        if (body === "") continue;
        const [ours, theirs] = [
          await outcome(pair.ours, operation, body),
          await outcome(pair.theirs, operation, body),
        ];
        if (ours === theirs || MEANT.some((meant) => meant.test(ours))) continue;
        differences.push({ body, ours: around(ours, theirs), theirs: around(theirs, ours) });
      }
      assert.deepEqual(differences, []);
    });
  });
}
