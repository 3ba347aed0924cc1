/**
 * The client that mod.ts exports, and the examples, against the built program.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { VmmEvent } from "@schemas/api/event.ts";
import { ApiError } from "@vmm/client/api_error.ts";
import { AnswerError } from "@vmm/client/answer_error.ts";
import { EventStreamError } from "@vmm/client/event_decoder.ts";
import { VmmClient } from "@vmm/client/vmm_client.ts";
import type { OperationName } from "@vmm/api/command.ts";
import { type Situation, verdictOf } from "@vmm/api/state_matrix.ts";
import { ResponseError } from "@vmm/remote/response.ts";
import { missing, ROOT, testWith } from "@tests/framework/programs.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { Vm } from "@tests/framework/vm.ts";

const socketOf = (vm: Vm) => join(vm.directory, "api.sock");

testWith({ binary: true }, "VmmClient: a VM from create to delete, with exact numbers", async () => {
  await using vm = await Vm.start({});
  const client = new VmmClient(socketOf(vm));
  assert.equal((await client.ping()).pid, vm.child.pid);
  await assert.rejects(client.info(), (error) => {
    assert(error instanceof ApiError);
    assert.equal(error.status, 404);
    assert.equal(error.endpoint, "vm.info");
    assert.equal(error.messages[0], "Error from API");
    return true;
  });
  await client.create({
    payload: { kernel: "/nonexistent" },
    memory: { size: (1n << 53n) + 1n },
    console: { mode: "Off" },
  });
  const info = await client.info();
  assert.equal(info.state, "Created");
  assert.equal(info.config.memory.size, (1n << 53n) + 1n);
  assert.equal(info.config.cpus.boot_vcpus, 1);
  assert.equal(await client.addDisk({ id: "d", path: "/nonexistent.raw" }), undefined);
  assert.deepEqual((await client.info()).config.disks?.map(({ id }) => id), ["d"]);
  await client.removeDevice("d");
  await assert.rejects(client.boot(), ApiError);
  await client.delete();
  await assert.rejects(client.info(), ApiError);
});

testWith({ binary: true }, "VmmClient: events arrive until the loop is left or aborted", async () => {
  await using vm = await Vm.start({});
  const client = new VmmClient(socketOf(vm));
  const seen: VmmEvent[] = [];
  const watching = (async () => {
    for await (const event of client.events()) {
      seen.push(event);
      if (event.event === "deleted") break;
    }
  })();
  // The stream begins when the server has taken the request, so there may have to be more than one VM.
  while (seen.length === 0) {
    await client.create({ payload: { kernel: "/nonexistent" }, console: { mode: "Off" } });
    await client.delete();
    await Promise.race([watching, new Promise((resolve) => setTimeout(resolve, 5))]);
  }
  await watching;
  assert.deepEqual(seen.at(-1)?.source, "vm");

  const abort = new AbortController();
  const events = client.events({ signal: abort.signal });
  const next = events.next();
  abort.abort();
  assert.deepEqual(await next, { done: true, value: undefined });
});

/** Operations the client can ask for at any time, by name; those that leave the process alone. */
const OPERATIONS: Partial<Record<OperationName, (client: VmmClient, vm: Vm) => Promise<unknown>>> = {
  "vmm.ping": (client) => client.ping(),
  "vm.info": (client) => client.info(),
  "vm.counters": (client) => client.counters(),
  "vm.create": (client, vm) => client.create(configOf(vm)),
  "vm.boot": (client) => client.boot(),
  "vm.pause": (client) => client.pause(),
  "vm.resume": (client) => client.resume(),
  "vm.nmi": (client) => client.nmi(),
  "vm.power-button": (client) => client.powerButton(),
  "vm.reboot": (client) => client.reboot(),
  "vm.resize": (client) => client.resize({}),
  "vm.add-disk": (client, vm) =>
    client.addDisk({ id: "new", path: join(vm.directory, "disk"), image_type: "Raw" }),
  "vm.shutdown": (client) => client.shutdown(),
  "vm.delete": (client) => client.delete(),
};

const configOf = (vm: Vm) => ({
  payload: { kernel: join(vm.directory, "kernel") },
  memory: { size: 64n << 20n },
  serial: { mode: "Null" },
  console: { mode: "Off" },
} as const);

const STEPS: Partial<Record<Situation, ((client: VmmClient, vm: Vm) => Promise<unknown>)[]>> = {
  absent: [],
  cold: [OPERATIONS["vm.create"]!],
  running: [OPERATIONS["vm.create"]!, OPERATIONS["vm.boot"]!],
  paused: [OPERATIONS["vm.create"]!, OPERATIONS["vm.boot"]!, OPERATIONS["vm.pause"]!],
};

for (const program of ["nephos", "cloud-hypervisor"] as const) {
  testWith(
    { binary: true, kvm: true },
    `VmmClient: every operation in every state, as the state matrix says, on ${program}`,
    async () => {
      await using vm = await Vm.start({ program });
      await Deno.writeFile(join(vm.directory, "kernel"), pvhElf(HALT));
      await Deno.writeFile(join(vm.directory, "disk"), new Uint8Array(1 << 20));
      const client = new VmmClient(socketOf(vm));
      for (const [situation, steps] of Object.entries(STEPS)) {
        for (const [operation, ask] of Object.entries(OPERATIONS)) {
          await client.delete();
          for (const step of steps) await step(client, vm);
          const verdict = verdictOf(operation as OperationName, situation as Situation);
          if (verdict === "ok") {
            await ask(client, vm);
          } else {
            await assert.rejects(ask(client, vm), (error) => {
              assert(error instanceof ApiError, `${operation} when ${situation}: ${error}`);
              assert.equal(error.endpoint, operation);
              assert.equal(error.messages[0], "Error from API");
              return error.status === 404 || error.status === 500;
            }, `${operation} when ${situation}`);
          }
        }
      }
    },
  );
}

testWith(
  { binary: true, kvm: true },
  "events: a reader that comes late sees what follows, one that does not read is let go",
  async () => {
    await using vm = await Vm.start({});
    await Deno.writeFile(join(vm.directory, "kernel"), pvhElf(HALT));
    const client = new VmmClient(socketOf(vm));
    using sleeper = await Deno.connect({ transport: "unix", path: socketOf(vm) });
    await sleeper.write(
      new TextEncoder().encode("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    );
    const slow = client.events();
    const booting = slow.next();
    // Until it is there: other events may come before it.
    for (let there = false; !there;) {
      await client.create(configOf(vm));
      await client.delete();
      there = await Promise.race([booting.then(() => true), client.ping().then(() => false)]);
    }
    await client.create(configOf(vm));
    await client.boot();
    const late = client.events();
    const first = late.next();
    // More than the socket and the VMM keep for a reader; the late one has to see one of them.
    let seen: VmmEvent | void = undefined;
    void first.then(({ value }) => seen = value);
    for (let count = 0; count < 4_000 || seen === undefined; count++) await client.resize({});
    assert.match((await first).value!.event, /^resiz(ing|ed)$/);
    await late.return();
    await assert.rejects(async () => {
      for await (const { source } of slow) assert.equal(source, "vm");
    }, { name: "EventStreamError", message: "The reader was cut off: too many events behind" });
    let text = "";
    for await (const part of sleeper.readable) text += new TextDecoder().decode(part);
    assert.ok(text.includes("event: vm/booted\n"));
    const told = text.match(/event: vm\/resized\n/g)?.length ?? 0;
    assert.ok(told > 0 && told < 4_000, `${told} events kept for a reader that does not read`);
    assert.equal((await client.info()).state, "Running");
  },
);

testWith(
  { binary: true },
  "VmmClient: the events of a VMM that ends are over, those of one that is killed break off",
  async () => {
    for (const kill of [false, true]) {
      await using vm = await Vm.start({});
      const client = new VmmClient(socketOf(vm));
      const events = client.events();
      const first = events.next();
      for (let there = false; !there;) {
        await client.create({ payload: { kernel: "/nonexistent" }, console: { mode: "Off" } });
        await client.delete();
        there = await Promise.race([first.then(() => true), client.ping().then(() => false)]);
      }
      if (kill) vm.child.kill("SIGKILL");
      else await client.shutdownVmm();
      const rest = Array.fromAsync(events);
      if (kill) await assert.rejects(rest, { name: "EventStreamError", message: /went away in the middle/ });
      else assert.equal((await rest).at(-1)?.source, "vmm");
    }
  },
);

testWith(
  { binary: true },
  "VmmClient: the drop-in personality has no event stream, and says so",
  async () => {
    await using vm = await Vm.start({ program: "cloud-hypervisor" });
    const client = new VmmClient(socketOf(vm));
    assert.ok((await client.ping()).version);
    await assert.rejects(client.events().next(), EventStreamError);
  },
);

testWith({ binary: true }, "VmmClient: nobody listens", async () => {
  for (
    const [path, expected] of [
      ["/nonexistent/socket", { code: "ENOENT" }],
      ["", { code: "EINVAL" }],
      ["/".padEnd(200, "x"), { message: "path must be shorter than SUN_LEN" }],
    ] as const
  ) {
    const client = new VmmClient(path);
    await assert.rejects(client.ping(), expected);
    await assert.rejects(client.events().next(), expected);
  }
});

/** Asks a server that answers with `answer` and closes the connection, or with nothing and keeps it. */
async function askOf(
  answer: string | undefined,
  ask: (client: VmmClient) => Promise<unknown>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "client-" });
  const path = join(directory, "api.sock");
  const listener = Deno.listen({ transport: "unix", path });
  const serving = (async () => {
    using connection = await listener.accept();
    const buffer = new Uint8Array(1 << 16);
    await connection.read(buffer);
    if (answer !== undefined) await connection.write(new TextEncoder().encode(answer));
    else while (await connection.read(buffer) !== null);
  })();
  try {
    await ask(new VmmClient(path));
    await serving;
  } finally {
    listener.close();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("VmmClient: answers that make no sense are errors a program can tell", async () => {
  const body = (text: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  const events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
  const ping = (client: VmmClient) => client.ping();
  const next = (client: VmmClient) => client.events().next();
  for (
    const [answer, ask, kind] of [
      [body("nonsense"), ping, AnswerError],
      [body("null"), ping, AnswerError],
      ["HTTP/1.1 204 \r\n\r\n", ping, AnswerError],
      [body("[]"), (client: VmmClient) => client.addDisk({ path: "/a" }), AnswerError],
      [body("{}").slice(0, -1), ping, AnswerError],
      ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", (client: VmmClient) => client.boot(), AnswerError],
      ["", ping, ResponseError],
      ["nonsense\r\n\r\n", ping, ResponseError],
      ["", next, EventStreamError],
      ["HTTP/1.1 200", next, EventStreamError],
      [`${events}data: nonsense\n\n`, next, AnswerError],
      [`${events.slice(0, -2)}Transfer-Encoding: chunked\r\n\r\n`, next, EventStreamError],
    ] as const
  ) {
    await askOf(answer, (client) => assert.rejects(ask(client), kind, answer));
  }
});

Deno.test("VmmClient: a signal ends the wait for a VMM that does not answer", async () => {
  const reason = new Error("enough");
  const isReason = (error: unknown) => error === reason;
  for (const fds of [[], [0]]) {
    await askOf(undefined, async (client) => {
      const abort = new AbortController();
      const waiting = client.addNet({}, { fds, signal: abort.signal });
      abort.abort(reason);
      await assert.rejects(waiting, isReason);
      await assert.rejects(client.ping({ signal: abort.signal }), isReason);
    });
  }
});

testWith({ binary: true }, "the examples run", async () => {
  await using vm = await Vm.start({});
  const kernel = join(vm.directory, "kernel");
  await Deno.writeFile(kernel, pvhElf(HALT));
  const example = (name: string, ...args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--config",
        join(ROOT, "deno.json"),
        join(ROOT, "examples", name),
        socketOf(vm),
        ...args,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
  const watch = example("watch_events.ts").spawn();
  const watched = watch.output();
  const boot = await example("boot_vm.ts", kernel).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.match(decode(boot.stdout), /^VMM \d+\.\d+\.\d+, process \d+\n/);
  if (missing({ kvm: true }) === undefined) {
    assert.match(decode(boot.stdout), /\nRunning, 128 MiB\n$/, decode(boot.stderr));
  }
  await new VmmClient(socketOf(vm)).shutdownVmm();
  const { code, stdout } = await watched;
  assert.equal(code, 0);
  assert.match(decode(stdout), /^(\d+\.\d{6} [a-z-]+ [a-z-]+.*\n)*$/);
});
