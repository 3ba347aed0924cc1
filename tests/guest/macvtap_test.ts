/** A network device on a macvtap interface, opened by whoever starts the VMM, as orchestrators do. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { askNeighbour } from "@tests/framework/arp.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { programPath } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { guestTest, PROGRAM, startVm } from "./subject.ts";

const NET = 1;
const GUEST_MAC = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const HOST_IP = [192, 168, 248, 1];
const INHERITED_FD = 3;

const macText = GUEST_MAC.map((byte) => byte.toString(16).padStart(2, "0")).join(":");

/** A macvtap on one end of a cable whose other end answers at `HOST_IP`. @returns its character device */
async function addMacvtap(network: NetworkNamespace): Promise<string> {
  await network.exec("ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1");
  await network.exec("ip", "address", "add", `${HOST_IP.join(".")}/24`, "dev", "cable1");
  for (const name of ["cable0", "cable1"]) await network.exec("ip", "link", "set", name, "up");
  await network.exec(
    "ip",
    "link",
    "add",
    "link",
    "cable0",
    "name",
    "mv0",
    "type",
    "macvtap",
    "mode",
    "bridge",
  );
  await network.exec("ip", "link", "set", "mv0", "address", macText, "up");
  const index = (await network.exec("cat", "/sys/class/net/mv0/ifindex")).trim();
  return `/dev/tap${index}`;
}

/** Why this cannot run here; macvtap devices appear by themselves only where /dev is the kernel's own. */
function missingMacvtap(): string | undefined {
  const isType = (text: string, line: RegExp) => line.test(Deno.readTextFileSync(text));
  if (!isType("/proc/devices", /\bmacvtap$/m)) return "no macvtap in this kernel";
  return isType("/proc/mounts", /^\S+ \/dev devtmpfs /m) ? undefined : "/dev is not a devtmpfs";
}

const reason = missingMacvtap();

const NAME = "packets go both ways through a macvtap given as a descriptor";

if (reason !== undefined) Deno.test({ name: `${NAME} (skipped: ${reason})`, ignore: true, fn() {} });
else {guestTest(
    NAME,
    async () => {
      await using network = await NetworkNamespace.create();
      const device = await addMacvtap(network);
      await using puppet = await Puppet.make();
      const program = join(puppet.directory, "program");
      const script = `#!/bin/sh\nexec ${INHERITED_FD}<>${device}\nexec "${programPath(PROGRAM)}" "$@"\n`;
      await Deno.writeTextFile(program, script, { mode: 0o755 });
      await using vm = await startVm({
        path: program,
        args: [...puppet.args(), "--net", `fd=[${INHERITED_FD}],mac=${macText},num_queues=2,id=_net0`],
        netns: network.name,
      });
      await puppet.started();
      const answer = await askNeighbour(puppet, NET, GUEST_MAC, HOST_IP);
      assert.deepEqual(answer.slice(0, 6), GUEST_MAC);
      assert.deepEqual(answer.slice(28, 32), HOST_IP);
      const { rx_frames, tx_frames } = JSON.parse((await vm.api.get("vm.counters")).body)._net0;
      assert.ok(rx_frames > 0 && tx_frames > 0);
      assert.deepEqual(await vm.stop(), { code: 0, signal: null });
    },
    { root: true, commands: ["ip"] },
  );}
