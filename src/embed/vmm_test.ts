import assert from "node:assert/strict";
import { close, memfd } from "@ffi/libc/fd.ts";
import { ApiError } from "@vmm/client/api_error.ts";
import { VmmClient } from "@vmm/client/vmm_client.ts";
import { Vmm } from "./vmm.ts";

const CONFIG = { payload: { kernel: "/nonexistent" }, console: { mode: "Off" } } as const;

Deno.test("Vmm answers without a socket, with the statuses and types of the REST API", async () => {
  await using vmm = await Vmm.start();
  assert.equal((await vmm.ping()).pid, Deno.pid);
  await assert.rejects(vmm.info(), (error) => error instanceof ApiError && error.status === 404);
  const size = (1n << 53n) + 1n;
  await vmm.create({ ...CONFIG, memory: { size } });
  assert.equal((await vmm.info()).config.memory.size, size);
  assert.equal(await vmm.addDisk({ id: "d", path: "/nonexistent.raw" }), undefined);
  await assert.rejects(vmm.request("PUT", "vm.create", { payload: 1 }), (error) => {
    assert(error instanceof ApiError);
    assert.equal(error.status, 400);
    return true;
  });
  await assert.rejects(vmm.request("GET", "vm.nonsense"), { status: 404 });
  assert.match(vmm.metrics(), /^nephos_vm_state\{state="Created"\} 1$/m);
  assert.match(
    vmm.metrics(),
    /^nephos_api_requests_total\{door="library",endpoint="vm.create",status="204"\} 1$/m,
  );
});

Deno.test("Vmm: a signal ends the wait, not the operation", async () => {
  await using vmm = await Vmm.start();
  const abort = new AbortController();
  const creating = vmm.create(CONFIG, { signal: abort.signal });
  abort.abort(new Error("enough"));
  await assert.rejects(creating, { message: "enough" });
  await assert.rejects(vmm.delete({ signal: abort.signal }), { message: "enough" });
  assert.equal((await vmm.info()).state, "Created");
});

Deno.test("Vmm: events from before the first next() to the end", async () => {
  const vmm = await Vmm.start();
  const events = vmm.events();
  await vmm.create(CONFIG);
  await vmm.shutdownVmm();
  assert.deepEqual(await vmm.ended, {});
  const names: string[] = [];
  for await (const { source, event } of events) names.push(`${source}/${event}`);
  assert.deepEqual(names, ["vm/deleted", "vmm/shutdown"]);
  await assert.rejects(vmm.ping(), { status: 500 });
  assert.deepEqual(await vmm.close(), {});
  assert.deepEqual(await Array.fromAsync(vmm.events()), []);
});

/** How many descriptors of this process are of the memory file `name`. */
function descriptorsOf(name: string): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter((entry) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${entry.name}`).startsWith(`/memfd:${name}`);
    } catch {
      return false; // the one that lists them
    }
  }).length;
}

Deno.test("Vmm: a request with a descriptor that is none keeps none of the others", async () => {
  await using vmm = await Vmm.start();
  const name = "embed-request";
  const fd = memfd(name);
  try {
    const closed = 1 << 20;
    await assert.rejects(vmm.addNet({}, { fds: [fd, fd, closed] }), /Bad file descriptor/);
    assert.equal(descriptorsOf(name), 1);
  } finally {
    close(fd);
  }
});

Deno.test("Vmm: a dialect there is not is an error", async () => {
  const dialect = "qemu" as "nephos";
  await assert.rejects(Vmm.start({ dialect }), { message: '"qemu" is no dialect: nephos, cloud-hypervisor' });
});

for (const dialect of ["nephos", "cloud-hypervisor"] as const) {
  Deno.test(`Vmm: one after another on the same socket, dialect ${dialect}`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "nephos-embed-" });
    const apiSocket = `${directory}/api.sock`;
    try {
      for (let round = 0; round < 2; round++) {
        await using vmm = await Vmm.start({ apiSocket, dialect });
        assert.equal((await Deno.lstat(apiSocket)).mode! & 0o077, 0);
        await assert.rejects(Vmm.start({ apiSocket, dialect }), /already in use/);
        const client = new VmmClient(apiSocket);
        await client.create(CONFIG);
        assert.equal((await vmm.info()).state, "Created");
        assert.equal((await client.info()).state, "Created");
      }
      await assert.rejects(Deno.lstat(apiSocket), Deno.errors.NotFound);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}
