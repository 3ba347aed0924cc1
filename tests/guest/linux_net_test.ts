/** Networking under Linux: a tap in a namespace, ping, TCP both ways, counters, several queue pairs. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { guestTest, linuxTest, startVm } from "./subject.ts";

const MIB = 2 ** 20;
/** Busybox sends 1 KiB a round trip, and a guest whose ring 0 is emulated spends milliseconds on each packet. */
const TRANSFER_BYTES = MIB / 8;
const NEEDS = { root: true, commands: ["ip", "ping", "busybox"] };
const NO_LOSS = / 0% packet loss/;

/**
 * A listener in the namespace for one connection: what it receives, as SHA-256; it sends `file` if one is given.
 * A `nc` whose input ends closes its half, and its partner goes away: the side that only receives keeps its input open.
 */
async function serve(network: NetworkNamespace, port: number, file?: string): Promise<() => Promise<string>> {
  const server = network.command("busybox", ["nc", "-l", "-p", `${port}`], {
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const sending = file && (await Deno.open(file)).readable.pipeTo(server.stdin).catch(() => {});
  const hash = createHash("sha256");
  const reading = (async () => {
    for await (const bytes of server.stdout) hash.update(bytes);
  })();
  const address = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  await eventually(`a listener at port ${port}`, async () => {
    const table = await network.exec("cat", "/proc/net/tcp", "/proc/net/tcp6");
    return table.split("\n").some((line) => line.includes(address) && line.includes(" 0A "));
  });
  return async () => {
    await Promise.all([sending, reading, server.status]);
    if (!file) await server.stdin.close().catch(() => {});
    return hash.digest("hex");
  };
}

linuxTest("two network devices: ping, TCP both ways, counters, pause", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0", { address: "192.168.71.1/24" });
  await network.addTap("tap1", { address: "192.168.72.1/24", queues: 2 });
  await using data = await TempDisk.pattern(TRANSFER_BYTES);
  const out = [await serve(network, 5071), await serve(network, 5072)];
  const into = [await serve(network, 6071, data.path), await serve(network, 6072, data.path)];
  await using guest = await LinuxGuest.boot({
    netns: network.name,
    config: {
      cpus: { boot_vcpus: 2, max_vcpus: 2 },
      disks: [{ path: data.path, readonly: true, image_type: "Raw" }],
      net: [
        { tap: "tap0", mac: "52:54:00:00:71:02", id: "first" },
        { tap: "tap1", mac: "52:54:00:00:72:02", num_queues: 4, mtu: 1400, id: "second" },
      ],
    },
    script: `
      ifconfig eth0 192.168.71.2 up; ifconfig eth1 192.168.72.2 up
      cd /sys/class/net
      section attributes; cat eth[01]/address eth[01]/mtu eth[01]/carrier; ls -1 eth1/queues
      section ping; ping -c 2 -W 60 -s 1300 192.168.71.1; ping -c 2 -W 60 192.168.72.1
      wait_for ping
      for net in 71 72; do nc 192.168.$net.1 50$net </dev/vda >/dev/null || echo failed; done
      section received
      mkfifo /tmp/silence; exec 4<>/tmp/silence
      for net in 71 72; do nc 192.168.$net.1 60$net <&4 | sha256sum; done
      wait_for counters
      ifconfig eth0 down; ifconfig eth0 192.168.71.2 up
      section "after down and up"; ping -c 2 -W 60 192.168.71.1
      wait_for end`,
  });

  const { text } = await guest.at("ping", async () => {
    for (const net of [71, 72]) {
      assert.match(
        await network.exec("ping", "-c", "2", "-W", "60", "-s", "1300", `192.168.${net}.2`),
        NO_LOSS,
      );
    }
    // Packets wait while the guest is paused.
    await guest.vm.api.mustPut("vm.pause");
    const ping = network.exec("ping", "-c", "1", "-W", "60", "192.168.71.2");
    assert.equal((await guest.vm.api.info()).state, "Paused");
    await guest.vm.api.mustPut("vm.resume");
    assert.match(await ping, NO_LOSS);
  });
  const seen = sections(text);
  assert.equal(
    seen.attributes,
    "52:54:00:00:71:02\n52:54:00:00:72:02\n1500\n1400\n1\n1\nrx-0\nrx-1\ntx-0\ntx-1\n",
  );
  assert.equal(seen.ping.match(/ 0% packet loss/g)?.length, 2, seen.ping);

  const transfer = await guest.at("counters", async () => {
    const counters = (await guest.vm.api.get("vm.counters")).json<Record<string, Record<string, number>>>();
    for (const id of ["first", "second"]) {
      const { rx_bytes, tx_bytes, rx_frames, tx_frames } = counters[id];
      assert.ok(rx_bytes > TRANSFER_BYTES && tx_bytes > TRANSFER_BYTES, JSON.stringify(counters));
      assert.ok(rx_frames > 40 && tx_frames > 40, JSON.stringify(counters));
    }
  });
  const sum = await data.sha256();
  assert.doesNotMatch(transfer.text, /failed/);
  assert.ok(sections(transfer.text).received.startsWith(`${sum}  -\n${sum}  -\n`), transfer.text);
  assert.deepEqual([await out[0](), await out[1]()], [sum, sum]);
  await Promise.all(into.map((end) => end()));

  const last = await guest.at("end", () => Promise.resolve());
  assert.match(sections(last.text)["after down and up"], NO_LOSS);
  assert.deepEqual((await guest.end()).exit, { code: 0, signal: null });
}, NEEDS);

guestTest("a tap that the VMM makes itself has its address, and goes away with it", async () => {
  await using network = await NetworkNamespace.create();
  await using puppet = await Puppet.make();
  const links = async () => (await network.exec("ip", "-o", "address")).trim();
  {
    await using vm = await startVm({
      netns: network.name,
      args: [...puppet.args(), "--net", "mac=52:54:00:00:73:02,ip=192.168.73.1,mask=255.255.255.0"],
    });
    await puppet.started();
    assert.match(await links(), /vmtap0\s+inet 192\.168\.73\.1\/24 /);
    assert.equal((await vm.api.info()).config.net[0].mac, "52:54:00:00:73:02");
  }
  assert.doesNotMatch(await links(), /vmtap0/);
}, NEEDS);
