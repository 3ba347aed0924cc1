/**
 * The command lines of known users of the original, as spec/consumers.md quotes them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { readRemoteArguments } from "@vmm/remote/remote_arguments.ts";
import { parseCommandLine } from "./command_line.ts";
import type { RunCommand } from "./command_result.ts";

async function run(argv: readonly string[]): Promise<RunCommand> {
  const result = await parseCommandLine(argv, "cloud-hypervisor");
  assert(result.kind === "run", inspect(result));
  return result;
}

async function vm(argv: readonly string[]): Promise<VmConfig> {
  const { vm: config } = await run(argv);
  assert(config !== undefined);
  return config;
}

Deno.test("Kata: bare socket path, verbosity, no seccomp", async () => {
  const { vmm, vm: config } = await run([
    "--api-socket",
    "/run/vc/vm/1/clh-api.sock",
    "-v",
    "-v",
    "--seccomp",
    "false",
  ]);
  assert.deepEqual(vmm.apiSocket, { kind: "path", path: "/run/vc/vm/1/clh-api.sock" });
  assert.equal(vmm.log.verbosity, 2);
  assert.equal(vmm.seccomp, "false");
  assert.equal(config, undefined);
});

Deno.test("libvirt: inherited socket, fifo for events, version", async () => {
  const { vmm } = await run([
    "--api-socket",
    "fd=7",
    "--event-monitor",
    "path=/run/libvirt/ch/1-monitor.fifo",
  ]);
  assert.deepEqual(vmm.apiSocket, { kind: "fd", fd: 7 });
  assert.deepEqual(vmm.eventMonitor, { kind: "path", path: "/run/libvirt/ch/1-monitor.fifo" });
  const version = await parseCommandLine(["--version"], "cloud-hypervisor");
  assert(version.kind === "print");
  assert.match(version.text, /^cloud-hypervisor v(\d+)\./);
});

Deno.test("Terraform: path= in the socket option", async () => {
  const { vmm } = await run(["--api-socket", "path=/run/ch/1.sock"]);
  assert.deepEqual(vmm.apiSocket, { kind: "path", path: "/run/ch/1.sock" });
});

Deno.test("Nomad: a whole VM on the command line", async () => {
  const config = await vm([
    "--api-socket",
    "path=/run/nomad/1.sock",
    "--serial",
    "file=/run/nomad/1.log",
    "--console",
    "off",
    "--kernel",
    "/boot/vmlinux",
    "--initramfs",
    "/boot/initramfs",
    "--cmdline",
    "console=ttyS0 root=/dev/vda1 rw",
    "--disk",
    "path=/a.raw",
    "path=/b.raw,readonly=on",
    "--net",
    "tap=tap0,mac=2e:89:a8:e4:bf:51,ip=,mask=",
    "--cpus",
    "boot=2",
    "--memory",
    "size=1073741824",
    "--balloon",
    "size=0,deflate_on_oom=on,free_page_reporting=on",
  ]);
  assert.deepEqual(config.serial, { mode: "File", file: "/run/nomad/1.log" });
  assert.equal(config.console.mode, "Off");
  assert.deepEqual(config.payload, {
    kernel: "/boot/vmlinux",
    initramfs: "/boot/initramfs",
    cmdline: "console=ttyS0 root=/dev/vda1 rw",
  });
  assert.deepEqual(config.disks?.map(({ path, readonly }) => [path, readonly]), [["/a.raw", false], [
    "/b.raw",
    true,
  ]]);
  assert.equal(config.net?.[0].tap, "tap0");
  assert.equal(config.net?.[0].ip, undefined);
  assert.equal(config.memory.size, 1n << 30n);
  assert.equal(config.cpus.max_vcpus, 2);
  assert.equal(config.balloon?.free_page_reporting, true);
});

Deno.test("flintlock: list values after one flag, virtio-fs over shared memory", async () => {
  const config = await vm([
    "--api-socket",
    "/var/lib/flintlock/vm/ns/id/cloudhypervisor.sock",
    "--log-file",
    "/var/lib/flintlock/vm/ns/id/cloudhypervisor.log",
    "-v",
    "--serial",
    "tty",
    "--console",
    "off",
    "--kernel",
    "/k",
    "--cmdline",
    "console=hvc0 root=/dev/vda rw ds=nocloud",
    "--cpus",
    "boot=2",
    "--memory",
    "size=2048M,shared=on",
    "--disk",
    "path=/rootfs.img",
    "path=/data.img",
    "path=/cloudinit.img,readonly=on",
    "--fs",
    "tag=user,socket=/fs.sock,num_queues=1,queue_size=1024",
    "--net",
    "tap=fltap1,mac=AA:FF:00:00:00:01",
    "tap=fltap2",
    "--vsock",
    "cid=3,socket=/v.sock",
  ]);
  assert.equal(config.disks?.length, 3);
  assert.equal(config.net?.length, 2);
  assert.equal(config.net?.[0].mac, "aa:ff:00:00:00:01");
  assert.equal(config.memory.shared, true);
  assert.deepEqual(config.fs?.map(({ tag, queue_size }) => [tag, queue_size]), [["user", 1024]]);
  assert.equal(config.vsock?.cid, 3);
});

Deno.test("Ubicloud: vhost-user disks, huge pages, empty addresses, passthrough", async () => {
  const config = await vm([
    "-v",
    "--api-socket",
    "path=/vm/1/ch-api.sock",
    "--kernel",
    "/opt/fw/CLOUDHV.fd",
    "--disk",
    "path=/vm/1/cloudinit.img,readonly=on,image_type=raw",
    "--disk",
    "vhost_user=true,socket=/vm/1/0.sock,num_queues=1,queue_size=256",
    "--console",
    "off",
    "--serial",
    "file=/vm/1/serial.log",
    "--cpus",
    "boot=2,topology=2:1:1:1",
    "--memory",
    "size=8G,hugepages=on,hugepage_size=1G",
    "--net",
    "mac=3e:00:00:00:00:01,tap=nc1,ip=,mask=,num_queues=5",
    "--device",
    "path=/sys/bus/pci/devices/0000:01:00.0/",
    "path=/sys/bus/pci/devices/0000:01:00.1/",
  ]);
  assert.equal(config.disks?.[1].vhost_user, true);
  assert.equal(config.disks?.[1].vhost_socket, "/vm/1/0.sock");
  assert.equal("path" in config.disks![1], false);
  assert.equal(config.memory.hugepage_size, 1n << 30n);
  assert.equal(config.net?.[0].num_queues, 5);
  assert.equal(config.devices?.length, 2);
  assert.equal(config.cpus.topology?.threads_per_core, 2);
});

Deno.test("microvm.nix: watchdog, SMBIOS strings, inherited macvtap, virtio-mem", async () => {
  const config = await vm([
    "--cpus",
    "boot=2",
    "--watchdog",
    "--kernel",
    "/nix/store/k/bzImage",
    "--initramfs",
    "/nix/store/i/initrd",
    "--cmdline",
    "earlyprintk=ttyS0 console=ttyS0 reboot=t panic=-1",
    "--seccomp",
    "true",
    "--memory",
    "mergeable=off,shared=on,size=512M,hotplug_method=virtio-mem,hotplug_size=512M",
    "--platform",
    "oem_strings=[io.systemd.credential:vmm.notify_socket=vsock-stream:2:8888,io.b]",
    "--console",
    "null",
    "--serial",
    "tty",
    "--net",
    "fd=[3,4],num_queues=4,mac=02:00:00:00:00:01",
    "--disk",
    "num_queues=1,path=/store.erofs,readonly=on,serial=store,image_type=raw",
    "--fs",
    "queue_size=1024,socket=/ro-store.sock,tag=ro-store",
    "--device",
    "path=/sys/bus/pci/devices/0000:00:02.0",
  ]);
  assert.equal(config.watchdog, true);
  assert.deepEqual(config.platform?.oem_strings, [
    "io.systemd.credential:vmm.notify_socket=vsock-stream:2:8888",
    "io.b",
  ]);
  assert.equal(config.memory.hotplug_method, "VirtioMem");
  assert.deepEqual(config.net?.[0].fds, [3, 4]);
  assert.equal(config.disks?.[0].serial, "store");
  assert.equal(config.console.mode, "Null");
});

Deno.test("Kuasar: affinity, devices with ids, inherited taps, a log file", async () => {
  const { vm: config, vmm } = await run([
    "--api-socket",
    "/run/kuasar/1/api.sock",
    "--cpus",
    "boot=2,topology=1:1:2:1,affinity=[0@[0-3],1@[4-5,8]],features=amx",
    "--memory",
    "size=4294967296,shared=on,hugepages=on,hugepage_size=2M",
    "--kernel",
    "/var/lib/kuasar/vmlinux.bin",
    "--cmdline",
    "console=hvc0 root=/dev/pmem0p1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4",
    "--pmem",
    "file=/var/lib/kuasar/kuasar.img,discard_writes=on,id=rootfs",
    "--rng",
    "src=/dev/urandom,id=rng",
    "--vsock",
    "cid=3,socket=/run/kuasar/1/task.vsock,id=vsock",
    "--console",
    "file=/run/kuasar/1/task.log,id=console",
    "--fs",
    "tag=kuasar,socket=/run/kuasar/1/virtiofs.sock,id=fs",
    "--net",
    "id=intf-0,fd=[9],mac=02:00:00:01:02:03,num_queues=2",
    "--log-file",
    "/run/kuasar/1/ch.log",
    "-v",
  ]);
  assert(config !== undefined);
  assert.deepEqual(config.cpus.affinity, [
    { vcpu: 0, host_cpus: [0, 1, 2, 3] },
    { vcpu: 1, host_cpus: [4, 5, 8] },
  ]);
  assert.equal(config.cpus.features.amx, true);
  assert.equal(config.memory.hugepage_size, 2n << 20n);
  assert.equal(config.payload?.cmdline?.includes("rootflags=data=ordered,errors=remount-ro"), true);
  assert.deepEqual([
    config.pmem?.[0].id,
    config.rng.id,
    config.vsock?.id,
    config.console.id,
    config.fs?.[0].id,
  ], [
    "rootfs",
    "rng",
    "vsock",
    "console",
    "fs",
  ]);
  assert.deepEqual(config.net?.[0].fds, [9]);
  assert.equal(vmm.log.file, "/run/kuasar/1/ch.log");
});

Deno.test("microvm.nix: a balloon, multi-queue disks and taps, plugged memory", async () => {
  const config = await vm([
    "--kernel",
    "/k",
    "--memory",
    "hotplug_method=virtio-mem,hotplug_size=1024M,hotplugged_size=512M,mergeable=on,shared=off,size=1024M",
    "--balloon",
    "deflate_on_oom=on,free_page_reporting=on,size=256M",
    "--disk",
    "num_queues=2,path=/store.erofs,readonly=on",
    "direct=on,image_type=raw,num_queues=2,path=/var.img,readonly=off,serial=var",
    "--net",
    "mac=02:00:00:00:00:01,num_queues=4,tap=vm-a",
    "--cpus",
    "boot=2",
    "--vsock",
    "cid=42,socket=notify.vsock",
  ]);
  assert.equal(config.memory.hotplugged_size, 512n << 20n);
  assert.equal(config.balloon?.size, 256n << 20n);
  assert.deepEqual(config.disks?.map(({ num_queues, direct, serial }) => [num_queues, direct, serial]), [
    [2, false, undefined],
    [2, true, "var"],
  ]);
  assert.equal(config.net?.[0].num_queues, 4);
});

Deno.test("hypeman, Kuasar, containerd: pmem, vsock, restore", async () => {
  const config = await vm([
    "--kernel",
    "/k",
    "--pmem",
    "file=/r.img,discard_writes=on",
    "--vsock",
    "cid=42,socket=/s",
  ]);
  assert.equal(config.pmem?.[0].discard_writes, true);
  const { restore } = await run([
    "--api-socket",
    "/s",
    "--restore",
    "source_url=file:///snap,net_fds=[net1@[23,24]]",
  ]);
  assert.deepEqual(restore?.net_fds, [{ id: "net1", num_fds: 2, fds: [23, 24] }]);
});

Deno.test("ch-remote as Ubicloud and microvm.nix call it", async () => {
  for (
    const argv of [["--api-socket", "/s", "power-button"], [
      "--api-socket",
      "/s",
      "resize",
      "--balloon",
      "512M",
    ]]
  ) {
    const invocation = await readRemoteArguments(argv, "ch-remote");
    assert(invocation.kind === "command", inspect(invocation));
    assert.equal(invocation.command.name, argv[2]);
    assert.deepEqual(invocation.global.get("api-socket"), ["/s"]);
  }
});
