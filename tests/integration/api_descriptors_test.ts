/**
 * Descriptors sent along with requests: who gets them, and that none is left behind.
 */
import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, SocketMessage, socketPair } from "@ffi/libc/socket.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { binary: true };
const ROUNDS = 250;
const CONFIG = {
  payload: { kernel: "/nonexistent" },
  cpus: { boot_vcpus: 4, max_vcpus: 4 },
  console: { mode: "Null" },
};

const encoder = new TextEncoder();

/** Sends a request the way the original's own client does: descriptors with the request line, body apart. */
async function send(
  path: string,
  operation: string,
  body: unknown,
  descriptors: readonly number[],
): Promise<string> {
  const message = new SocketMessage(1 << 16);
  const socket = connectUnix(path);
  const text = JSON.stringify(body);
  message.send(
    socket,
    encoder.encode(`PUT /api/v1/${operation} HTTP/1.1\r\nHost: localhost\r\n`),
    descriptors,
  );
  message.send(socket, encoder.encode(`Content-Length: ${text.length}\r\n\r\n${text}`));
  for (;;) {
    const count = message.receive(socket);
    if (count >= 0) {
      close(socket);
      return new TextDecoder().decode(message.data.subarray(0, count));
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** How many descriptors of `vm` are the same socket as ours: its other ones come and go while it warms up. */
async function copies(vm: Vm, fd: number): Promise<number> {
  const target = await Deno.readLink(`/proc/self/fd/${fd}`);
  return [...(await vm.descriptors()).values()].filter((other) => other === target).length;
}

/** Passes when it comes to that: descriptors may be closed a moment after the answer. */
async function thereAre(vm: Vm, fd: number, count: number): Promise<void> {
  await eventually(`${count} copies of the descriptor`, async () => await copies(vm, fd) === count);
}

const statusOf = (answer: string) => Number(answer.slice(9, 12));

testWith(NEEDS, "a tap's descriptors stay open with the device and close with it", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  const path = vm.api.socketPath;
  const [ours, theirs] = socketPair();
  await vm.api.mustPut("vm.create", CONFIG);
  assert.equal(statusOf(await send(path, "vm.add-net", { id: "one" }, [theirs])), 204);
  assert.equal(
    statusOf(await send(path, "vm.add-net", { id: "four", num_queues: 8 }, [theirs, theirs, theirs, theirs])),
    204,
  );
  await thereAre(vm, theirs, 5);
  const { config: { net } } = await vm.api.info();
  assert.deepEqual(net.map(({ fds }: { fds: number[] }) => fds.length), [1, 4]);
  const open = await vm.descriptors();
  for (const { fds } of net) for (const fd of fds) assert.match(open.get(fd)!, /^socket:/);
  await vm.api.mustPut("vm.remove-device", { id: "four" });
  await thereAre(vm, theirs, 1);
  await vm.api.mustPut("vm.delete");
  await thereAre(vm, theirs, 0);
  close(ours);
  close(theirs);
});

testWith(NEEDS, "1,000 requests with descriptors leave none behind", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  const path = vm.api.socketPath;
  const [ours, theirs] = socketPair();
  await vm.api.mustPut("vm.create", CONFIG);
  const requests: [string, unknown, number, number][] = [
    ["vm.add-net", { id: "net", num_queues: 3 }, 3, 400],
    ["vm.add-device", { path: "/x" }, 2, 400],
    ["vm.add-disk", { path: "/x", num_queues: 99 }, 1, 400],
    ["vm.restore", { source_url: "file:///x", net_fds: [{ id: "a", num_fds: 2 }] }, 1, 400],
  ];
  const run = async () => {
    for (const [operation, body, number, status] of requests) {
      assert.equal(
        statusOf(await send(path, operation, body, new Array(number).fill(theirs))),
        status,
        operation,
      );
    }
  };
  for (let round = 0; round < ROUNDS; round++) await run();
  await thereAre(vm, theirs, 0);
  close(ours);
  close(theirs);
});

testWith(NEEDS, "descriptors of a connection that ends before its request are closed", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  const [ours, theirs] = socketPair();
  const message = new SocketMessage(16);
  for (let round = 0; round < 20; round++) {
    const socket = connectUnix(vm.api.socketPath);
    message.send(socket, encoder.encode("PUT /api/v1/vm.add-net HTTP/1.1\r\n"), new Array(50).fill(theirs));
    close(socket);
  }
  await vm.waitForApi();
  await thereAre(vm, theirs, 0);
  close(ours);
  close(theirs);
});
