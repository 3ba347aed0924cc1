import assert from "node:assert/strict";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import {
  readConsole,
  readCpus,
  readDebugConsole,
  readFwCfg,
  readLandlockRule,
  readMemory,
  readNuma,
  readPlatform,
  readRestore,
  readSerial,
} from "./vm_options.ts";

function chain(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    return messagesOf(error);
  }
  return [];
}

Deno.test("readCpus() takes the maximum from the boot count", () => {
  assert.deepEqual(readCpus("boot=3"), {
    boot_vcpus: 3,
    max_vcpus: 3,
    kvm_hyperv: false,
    max_phys_bits: 46,
    features: { amx: false },
    nested: true,
    core_scheduling: "Vm",
    profile: "Host",
  });
  const cpus = readCpus(
    'boot=1,max=4,topology="1:+4:1:1",affinity=[0@[1-2]],features=[amx],core_scheduling=VCPU',
  );
  assert.deepEqual(cpus.topology, {
    threads_per_core: 1,
    cores_per_die: 4,
    dies_per_package: 1,
    packages: 1,
  });
  assert.deepEqual(cpus.affinity, [{ vcpu: 0, host_cpus: [1, 2] }]);
  assert.equal(cpus.features.amx, true);
  assert.equal(cpus.core_scheduling, "Vcpu");
});

Deno.test("readCpus() refuses with the original's texts", () => {
  const conversion = (text: string) => chain(() => readCpus(text))[1];
  assert.equal(conversion("topology=1:4:1"), "Unable to convert 1:4:1 for topology");
  assert.equal(conversion("topology=1:70000:1:1"), "Unable to convert 1:70000:1:1 for topology");
  assert.equal(conversion("profile=host"), "Unable to convert host for profile");
  assert.deepEqual(chain(() => readCpus("features=[amx,foo]")), [
    "Invalid feature in --cpus features list: foo",
  ]);
  assert.deepEqual(chain(() => readCpus("features=[]")), ["Invalid feature in --cpus features list: "]);
});

Deno.test("readMemory() hands mergeable down to zones that do not say", () => {
  const memory = readMemory("size=0,mergeable=on", ["id=a,size=1G", "id=b,mergeable=off"]);
  assert.equal(memory.size, 0n);
  assert.deepEqual(memory.zones?.map(({ id, size, mergeable }) => [id, size, mergeable]), [
    ["a", 1n << 30n, true],
    ["b", 512n << 20n, false],
  ]);
  assert.equal("zones" in readMemory("size=1G,file=/x", []), false);
  assert.deepEqual(chain(() => readMemory("", ["size=1G"])), ["Error parsing --memory-zone: id missing"]);
});

Deno.test("consoles: the strongest mode wins and keeps only its path", () => {
  assert.deepEqual(readSerial("null,pty"), { mode: "Pty" });
  assert.deepEqual(readSerial("file=/x,null"), { mode: "Null" });
  assert.deepEqual(readSerial("file=/x"), { file: "/x", mode: "File" });
  assert.deepEqual(readSerial("socket=/s"), { mode: "Socket", socket: "/s" });
  assert.deepEqual(readSerial("file="), { mode: "File" });
  assert.deepEqual(readConsole("off=1,iommu=on"), { mode: "Off", iommu: true, pci_segment: 0 });
  assert.deepEqual(readDebugConsole("null"), { mode: "Null" });
  assert.deepEqual(readDebugConsole("tty,iobase=0x402"), { mode: "Tty", iobase: 0x402 });
});

Deno.test("consoles refuse with the original's texts", () => {
  assert.deepEqual(chain(() => readSerial("")), ["Error parsing --console: invalid console mode given"]);
  assert.deepEqual(chain(() => readSerial("OFF")), ["Error parsing --serial", "Unknown option: OFF"]);
  assert.deepEqual(chain(() => readSerial("file")), ["Error parsing --serial", "Invalid syntax: file"]);
  assert.deepEqual(chain(() => readDebugConsole("foo")), ["Error parsing --console", "Unknown option: foo"]);
  assert.deepEqual(chain(() => readDebugConsole("off,iobase=e9")), [
    "Error validating configuration",
    "The IO port was not properly provided in hex or a `0x` prefix is missing: e9",
  ]);
});

Deno.test("readPlatform() turns iommufd on with its descriptor", () => {
  assert.equal(readPlatform("").iommufd, false);
  assert.equal(readPlatform("iommufd_fd=3").iommufd, true);
  assert.equal(readPlatform("iommufd=off,iommufd_fd=3").iommufd, false);
  assert.deepEqual(readPlatform('oem_strings=["a,b",c]').oem_strings, ['"a,b"', "c"]);
  assert.equal(readPlatform("serial_number=a,system_serial_number=b").system_serial_number, "b");
  assert.equal(readPlatform("uuid=x").system_uuid, "x");
});

Deno.test("readNuma() needs the node number", () => {
  assert.deepEqual(readNuma("guest_numa_id=1,cpus=[0-1],distances=[0@20]"), {
    guest_numa_id: 1,
    cpus: [0, 1],
    distances: [{ destination: 0, distance: 20 }],
  });
  assert.deepEqual(chain(() => readNuma("cpus=[1]")), [
    "Error parsing --numa",
    "Invalid value: guest_numa_id is required for all NUMA nodes",
  ]);
  assert.equal(
    chain(() => readNuma("guest_numa_id=0,distances=[0@256]"))[1],
    "Unable to convert [0@256] for distances",
  );
});

Deno.test("readLandlockRule() takes at most two letters", () => {
  assert.deepEqual(readLandlockRule("path=/a,access=rr"), { path: "/a", access: "rr" });
  assert.deepEqual(chain(() => readLandlockRule("path=/a,access=rrr")), [
    "Error parsing --landlock-rules",
    "Invalid value: rrr",
  ]);
  assert.deepEqual(chain(() => readLandlockRule("path=/a")), [
    "Error parsing --landlock-rules: path/access field missing",
  ]);
});

Deno.test("readFwCfg() reads items", () => {
  assert.deepEqual(readFwCfg("e820=off,items=[name=a,string=x=y:name=c,file=/f]"), {
    e820: false,
    kernel: true,
    cmdline: true,
    initramfs: true,
    acpi_tables: true,
    items: { item_list: [{ name: "a", string: "x=y" }, { name: "c", file: "/f" }] },
  });
  assert.equal("items" in readFwCfg("items="), false);
  for (const items of ["[]", "name=a", "[foo=a]", "[string=a]", "[name=a,string=b:]"]) {
    assert.deepEqual(chain(() => readFwCfg(`items=${items}`)), [
      "Error parsing --fw-cfg-config items",
      `Unable to convert ${items} for items`,
    ]);
  }
});

Deno.test("readRestore() counts descriptors", () => {
  assert.deepEqual(
    readRestore("source_url=file:///a,net_fds=[n@[3,4]],vfio_fds=[v@5],iommufd_fd=6,resume=true"),
    {
      source_url: "file:///a",
      prefault: false,
      memory_restore_mode: "Copy",
      net_fds: [{ id: "n", num_fds: 2, fds: [3, 4] }],
      vfio_fds: [{ id: "v", fd: 5 }],
      iommufd_fd: 6,
      resume: true,
      zone_updates: [],
    },
  );
  assert.deepEqual(chain(() => readRestore("")), ["Error parsing --restore: source_url missing"]);
});
