/** Sockets between a Linux guest and its host: both ways with large transfers, half-close, hot-plug, reboot. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "@tests/framework/command.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { HostService, HostStream } from "@tests/framework/vsock_driver.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const CID = 3;
const MIB = 2 ** 20;
const TRANSFER_BYTES = 2 * MIB;
const SOURCE = fileURLToPath(new URL("programs/vsock_pipe.c", import.meta.url));
const NEEDS = { commands: ["gcc"] };

/** The program that talks in the guest, compiled. */
async function pipeProgram(): Promise<Uint8Array> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-vsock-" });
  try {
    const path = join(directory, "vsock_pipe");
    await run("gcc", "-O2", "-Wall", "-static", "-s", "-o", path, SOURCE);
    return await Deno.readFile(path);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Reads a stream to its end. @returns SHA-256 of what came */
async function hashOf(stream: HostStream): Promise<string> {
  const hash = createHash("sha256");
  const bytes = new Uint8Array(65536);
  for (let count = await stream.connection.read(bytes); count !== null;) {
    hash.update(bytes.subarray(0, count));
    count = await stream.connection.read(bytes);
  }
  return hash.digest("hex");
}

/** Connects to a port of the guest; its program may not listen yet. */
async function dial(socket: string, port: number): Promise<HostStream> {
  return await eventually(`a listener at port ${port} of the guest`, async () => {
    const stream = await HostStream.connect(socket);
    await stream.write(`CONNECT ${port}\n`);
    const answer = await stream.line().catch(() => "");
    if (/^OK \d+\n$/.test(answer)) return stream;
    stream.close();
    return undefined;
  }, 120_000);
}

linuxTest("test_virtio_vsock: large transfers both ways, a refused port, half-close", async () => {
  await using data = await TempDisk.pattern(TRANSFER_BYTES);
  const sum = await data.sha256();
  const vsock = { cid: CID, socket: `${await Deno.makeTempDir({ prefix: "nephos-vsock-" })}/s` };
  await using guest = await LinuxGuest.boot({
    config: { vsock, disks: [{ path: data.path, readonly: true, image_type: "Raw" }] },
    files: { "bin/vsock_pipe": await pipeProgram() },
    script: `
      wait_for out
      section out; vsock_pipe connect 2 5000 </dev/vda || echo failed
      section refused; vsock_pipe connect 2 5999 </dev/null && echo connected
      section in; vsock_pipe listen 16 1 </dev/null | sha256sum
      section answer; echo from the guest | vsock_pipe listen 17 1
      wait_for end`,
  });
  using service = new HostService(vsock.socket, 5000);
  const [out] = await Promise.all([
    // the guest ends sending; the host answers what it got on the other half
    service.accept().then(async (stream) => {
      const hash = await hashOf(stream);
      await stream.write(`host got ${hash}\n`);
      stream.close();
      return hash;
    }),
    guest.at("out", () => Promise.resolve()),
  ]);
  assert.equal(out, sum);

  using into = await dial(vsock.socket, 16);
  await into.write(await data.read(0, TRANSFER_BYTES));
  await into.endSending();
  assert.equal(await into.end(), "end");

  using answer = await dial(vsock.socket, 17);
  assert.equal(await answer.line(), "from the guest\n");
  assert.equal(await answer.end(), "end"); // the guest has ended sending, and still listens
  await answer.write("from the host\n");
  await answer.endSending();

  const { text } = await guest.at("end", () => Promise.resolve());
  const seen = sections(text);
  assert.match(seen.refused, /connect: Connection reset by peer/);
  assert.ok(seen.in.includes(`${sum}  -`), seen.in);
  assert.match(seen.answer, /from the host\n/);
  assert.deepEqual((await guest.end()).exit, { code: 0, signal: null });
  await assert.rejects(Deno.lstat(vsock.socket), Deno.errors.NotFound);
  await Deno.remove(join(vsock.socket, ".."), { recursive: true });
}, NEEDS);

linuxTest(
  "test_virtio_vsock_hotplug: a socket device comes, works, goes, and survives a reboot",
  async () => {
    await using guest = await LinuxGuest.boot({
      files: { "bin/vsock_pipe": await pipeProgram() },
      script: `
      wait_for plugged
      until ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/ | grep -q virtio; do usleep 50000; done
      section first; echo hello | vsock_pipe listen 16 1
      wait_for gone
      while ls /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/ | grep -q virtio; do usleep 50000; done
      section left; ls -1 /sys/bus/pci/devices
      wait_for end`,
    });
    const { api } = guest.vm;
    const socket = guest.path("s");
    const exists = () => Deno.lstat(socket).then(() => true, () => false);
    await guest.at("plugged", async () => {
      const added = await api.mustPut("vm.add-vsock", { cid: CID, socket, id: "late" });
      assert.equal(added.json<{ id: string }>().id, "late");
      assert.equal((await api.put("vm.add-vsock", { cid: CID + 1, socket: `${socket}2` })).status, 500);
    });
    using stream = await dial(socket, 16);
    assert.equal(await stream.line(), "hello\n");
    await stream.endSending();
    await guest.at("gone", async () => {
      await api.mustPut("vm.remove-device", { id: "late" });
      await eventually(
        "the end of the device",
        async () => !("late" in (await api.info()).device_tree),
        120_000,
      );
      assert.equal(await exists(), false);
    });
    await guest.until("waiting for end\n");
    await api.mustPut("vm.add-vsock", { cid: CID, socket });
    await api.mustPut("vm.reboot"); // the guest's terminal is another one from here on
    assert.equal((await api.info()).config.vsock.socket, socket);
    assert.equal(await exists(), true);
  },
  NEEDS,
);
