/**
 * The Terraform provider `tf-provider-cloud-hypervisor`: a process per VM, a resource per hot-plugged device.
 *
 * 204 means done, 200 comes with a body, 404 is "not found" and lets a resource vanish from the state, everything else from
 * 400 on is an error that shows the body. A process that ends within half a second has failed and shows its standard error.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { type Answer, GoClient } from "./clients.ts";
import { conversation } from "./conversation.ts";
import { dial, gone } from "./host.ts";

const MIB = 1 << 20;

const providerClient = (socket: string) =>
  new GoClient(socket, { keepAlive: true, withBody: { "Content-Type": "application/json" } });

/** `doRequest`: decoded or not, or the error the user is shown. */
function outcome({ status, body }: Answer, wantsBody: boolean): unknown {
  if (status === 204) return "done";
  if (status === 404) return { ErrNotFound: body.trim().slice(0, 512) };
  if (status >= 400) return { StatusCode: status, Body: body.trim() };
  return wantsBody ? JSON.parse(body) : "done";
}

conversation("Terraform: a start that fails shows why", {}, async (talk) => {
  // Older versions of the provider name the option so; whoever upgrades sees this.
  const socket = join(talk.directory, "api.sock");
  const vm = await talk.start(["--api-socket-path", socket]);
  talk.read("exit", await vm.waitForExit());
  assert.match(vm.stderr.text, /^error: unexpected argument '--api-socket-path' found/);
  const [line] = vm.stderr.text.split("\n");
  talk.read("standard error", line);
  // A socket in a directory that is not there.
  const second = await talk.start(["--api-socket", `path=${join(talk.directory, "absent", "api.sock")}`]);
  talk.read("exit", await second.waitForExit());
  talk.read("chain", second.stderr.text.split("\n").filter((text) => /^ +\d+: /.test(text)));
});

const NEEDS = { root: true, commands: ["ip"] };

conversation("Terraform: apply, hot-plug, refresh, destroy", NEEDS, async (talk) => {
  const { directory } = talk;
  await using network = await NetworkNamespace.create();
  await network.addTap("tf0");
  await Deno.writeFile(join(directory, "vmlinux"), pvhElf(COUNT));
  for (const name of ["root.img", "data.img"]) {
    await Deno.writeFile(join(directory, name), new Uint8Array(2 * MIB));
  }
  const socket = join(directory, "api.sock");
  const vm = await talk.start(["--api-socket", `path=${socket}`], { netns: network.name });
  await dial(socket); // WaitReady: connects and hangs up
  using client = providerClient(socket);
  const ping = (await client.get("vmm.ping")).json();
  assert.equal(ping.pid, vm.pid);
  talk.read("version", ping.version);

  // Read of a resource whose VM is not there: the provider drops it from its state.
  talk.read("refresh without a VM", outcome(await client.get("vm.info"), true));

  // Create: pointers that are nil and empty texts are left out, `false` of the user's own is not.
  const config = {
    payload: { kernel: join(directory, "vmlinux"), cmdline: "console=hvc0 root=/dev/vda rw" },
    cpus: {
      boot_vcpus: 2,
      max_vcpus: 2,
      nested: false,
      core_scheduling: "Off",
      affinity: [{ vcpu: 0, host_cpus: [0] }],
    },
    memory: { size: 128 * MIB, mergeable: false, shared: true, thp: false },
    rate_limit_groups: [{
      id: "slow",
      rate_limiter_config: {
        bandwidth: { size: MIB, refill_time: 100 },
        ops: { size: 1000, refill_time: 100 },
      },
    }],
    disks: [{
      path: join(directory, "root.img"),
      readonly: false,
      id: "root",
      serial: "root-disk",
      rate_limit_group: "slow",
      image_type: "Raw",
      lock_granularity: "ByteRange",
      queue_affinity: [{ queue_index: 0, host_cpus: [0] }],
    }],
    rng: { src: "/dev/urandom", iommu: false },
    serial: { file: join(directory, "serial.log"), mode: "File" },
    console: { mode: "Off" },
    debug_console: { mode: "Off" },
    iommu: false,
    watchdog: false,
    pvpanic: true,
    platform: { num_pci_segments: 1, serial_number: "tf-1", oem_strings: ["owner=terraform"] },
  };
  talk.read("create", outcome(await client.put("vm.create", config), false));
  talk.read("boot", outcome(await client.put("vm.boot"), false));
  const info = talk.read("info", (await client.get("vm.info")).json());
  assert.equal(info.state, "Running");
  for (
    const [name, node] of Object.entries(info.device_tree) as [string, { id: string; pci_bdf?: string }][]
  ) {
    assert.equal(node.id, name);
    if (node.pci_bdf !== undefined) {
      assert.match(node.pci_bdf, /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/);
    }
  }

  // cloudhypervisor_disk, cloudhypervisor_net
  const disk = { path: join(directory, "data.img"), readonly: true, id: "data", image_type: "Raw" };
  const plugged = talk.read("add-disk", outcome(await client.put("vm.add-disk", disk), true)) as {
    id: string;
  };
  assert.equal(plugged.id, "data");
  talk.read("add-disk of the same id", outcome(await client.put("vm.add-disk", disk), true));
  const net = { tap: "tf0", mac: "02:00:00:00:10:01", id: "nic1", num_queues: 2, mtu: 1400 };
  talk.read("add-net", outcome(await client.put("vm.add-net", net), true));
  const absent = { ...net, id: "nic2", num_queues: 1 };
  talk.read(
    "add-net with an impossible number of queues",
    outcome(await client.put("vm.add-net", absent), true),
  );
  const refreshed = talk.read("info with both", (await client.get("vm.info")).json());
  const disks: { id: string }[] = refreshed.config.disks;
  assert.deepEqual(disks.map(({ id }) => id), ["root", "data"]);
  assert.deepEqual(refreshed.device_tree.nic1.id, "nic1");
  talk.read("remove-device", outcome(await client.put("vm.remove-device", { id: "data" }), false));
  talk.read(
    "remove-device of one that is gone",
    outcome(await client.put("vm.remove-device", { id: "x" }), false),
  );

  // Destroy: shutdown, delete, SIGTERM.
  talk.read("shutdown", outcome(await client.put("vm.shutdown"), false));
  talk.read("shutdown again", outcome(await client.put("vm.shutdown"), false));
  talk.read("delete", outcome(await client.put("vm.delete"), false));
  talk.read("refresh after delete", outcome(await client.get("vm.info"), true));
  talk.read("exit", await vm.stop());
  await gone(socket);
  assert.equal(await Deno.readTextFile(join(directory, "serial.log")), "U");
});
