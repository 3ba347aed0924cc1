/**
 * The client that mod.ts exports, and the examples, against the built program.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { VmmEvent } from "@schemas/api/event.ts";
import { ApiError } from "@vmm/client/api_error.ts";
import { EventStreamError } from "@vmm/client/event_decoder.ts";
import { VmmClient } from "@vmm/client/vmm_client.ts";
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
  await assert.rejects(new VmmClient("/nonexistent/socket").ping(), { code: "ENOENT" });
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
