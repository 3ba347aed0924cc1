/** A network device on descriptors of a tap that whoever starts the VMM has opened. */
import assert from "node:assert/strict";
import { askNeighbour } from "@tests/framework/arp.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Descriptors, tapDescriptors } from "../consumers/host.ts";
import { guestTest, startVm } from "./subject.ts";

const NET = 1;
const GUEST_MAC = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcd];
const HOST_IP = [192, 168, 247, 1];
const QUEUE_PAIRS = 2;

const macText = GUEST_MAC.map((byte) => byte.toString(16).padStart(2, "0")).join(":");

guestTest(
  "packets go both ways through a tap given as two descriptors, after a reboot, too",
  async () => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0", { address: `${HOST_IP.join(".")}/24`, queues: QUEUE_PAIRS });
    using passed = Descriptors.ofTap(network, "tap0", QUEUE_PAIRS).inherit();
    await using puppet = await Puppet.make();
    const net = `fd=[${passed.numbers}],mac=${macText},num_queues=${2 * QUEUE_PAIRS},id=net`;
    await using vm = await startVm({
      args: [...puppet.args(), "--cpus", `boot=${QUEUE_PAIRS}`, "--net", net],
    });
    passed[Symbol.dispose](); // the device's own from here on
    for (const start of [1, 2, 3]) {
      await puppet.started(start);
      const answer = await askNeighbour(puppet, NET, GUEST_MAC, HOST_IP);
      assert.deepEqual(answer.slice(0, 6), GUEST_MAC);
      assert.deepEqual(answer.slice(28, 32), HOST_IP);
      const { rx_frames, tx_frames } = JSON.parse((await vm.api.get("vm.counters")).body).net;
      assert.ok(rx_frames > 0 && tx_frames > 0);
      if (start < 3) await vm.api.mustPut("vm.reboot");
    }
    assert.ok(await tapDescriptors(vm.pid, "tap0") >= QUEUE_PAIRS);
    await vm.api.mustPut("vm.remove-device", { id: "net" });
    assert.equal((await vm.api.info()).config.net?.length ?? 0, 0);
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  },
  { root: true, commands: ["ip"] },
);
