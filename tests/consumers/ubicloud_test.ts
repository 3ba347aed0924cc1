/**
 * Ubicloud (`rhizome/host/lib/vm_setup.rb`): a systemd unit in a network namespace, storage by a vhost-user daemon.
 *
 * The unit removes the socket before it starts; `ch-remote` presses the power button; what remains is SIGTERM.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { curl } from "./clients.ts";
import { conversation, type Talk } from "./conversation.ts";
import { dial, gone, powerOffOnButton, there } from "./host.ts";

const MIB = 1 << 20;
const NEEDS = { root: true, commands: ["ip", "curl", "qemu-storage-daemon"] };

/** `build_ch_service`, without huge pages: `shared=on` stands in for them. */
function start(talk: Talk, network: NetworkNamespace, firmware: string): Promise<Vm> {
  const { directory } = talk;
  const path = (name: string) => join(directory, name);
  return talk.start([
    ...["-v", "--api-socket", `path=${path("ch-api.sock")}`, "--kernel", firmware],
    ...["--disk", `vhost_user=true,socket=${path("vhost.sock")},num_queues=2,queue_size=256`],
    `path=${path("cloudinit.img")}`,
    ...["--console", "off", "--serial", `file=${path("serial.log")}`],
    ...["--cpus", "boot=2,topology=2:1:1:1", "--memory", "size=1G,shared=on"],
    ...["--net", "mac=3e:00:00:00:00:01,tap=nc1,ip=,mask=,num_queues=5"],
  ], { netns: network.name, prefix: ["sh", "-c", 'rm -f "$0"; exec "$@"', path("ch-api.sock")] });
}

async function remote(talk: Talk, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(talk.remote, { args, stdin: "null" }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return {
    code,
    stdout: text(stdout),
    chain: text(stderr).split("\n").filter((line) => /^ +\d+: /.test(line)),
  };
}

conversation("Ubicloud: a unit starts, is asked to power off, and is stopped", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await using puppet = await Puppet.make();
  await Deno.writeFile(join(directory, "root.raw"), new Uint8Array(4 * MIB));
  await Deno.writeFile(join(directory, "cloudinit.img"), new Uint8Array(128 * 1024));
  // Left over from a host that lost power: the unit removes it.
  await Deno.writeTextFile(join(directory, "ch-api.sock"), "");
  const socket = join(directory, "ch-api.sock");
  for (const end of ["power button", "stop"] as const) {
    // The storage daemon's service; it serves one VM after the other.
    await using _storage = await Daemon.storage(join(directory, "vhost.sock"), join(directory, "root.raw"), {
      queues: 2,
    });
    const vm = await start(talk, network, puppet.kernel);
    await dial(socket);
    await eventually(
      "the guest's first byte in the serial log",
      async () => await Deno.readTextFile(join(directory, "serial.log")).catch(() => "") === "U",
    );
    await puppet.attach(vm.pid);
    // The tap is made by the VMM: routes are put on it once it is up, and it has no address.
    const link = await eventually("the tap to be up", async () => {
      const text = await network.exec("ip", "-d", "link", "show", "nc1").catch(() => "");
      return /state UP|LOWER_UP/.test(text) && text;
    });
    assert.match(link, /numqueues 2/); // an odd number of queues: pairs count
    assert.doesNotMatch(await network.exec("ip", "address", "show", "nc1"), /inet /);
    const info = (await curl(socket, [], "vm.info")).json();
    talk.read("info", info);
    if (end === "power button") {
      talk.read(end, await remote(talk, "--api-socket", socket, end.replace(" ", "-")));
      await powerOffOnButton(puppet, info);
      talk.read("exit", await vm.waitForExit());
    } else {
      talk.read("exit", await vm.stop()); // systemctl stop
    }
    await gone(socket);
    assert.equal(await there(`${socket}.lock`), true);
    const chain = await remote(talk, "--api-socket", socket, "power-button");
    talk.read("power button of a unit that is gone", chain.code);
    assert.doesNotMatch(await network.exec("ip", "link"), /nc1/);
  }
});
