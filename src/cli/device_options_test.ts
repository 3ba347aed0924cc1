import assert from "node:assert/strict";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import {
  readBalloon,
  readDevice,
  readDisk,
  readFs,
  readGenericVhostUser,
  readNet,
  readPmem,
  readRateLimitGroup,
  readVsock,
} from "./device_options.ts";

function chain(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    return messagesOf(error);
  }
  return [];
}

Deno.test("readDisk() fills all fields", () => {
  const disk = readDisk(
    "path=/a,readonly=on,direct=on,num_queues=2,queue_size=64,vhost_user=on,socket=/s,rate_limit_group=g," +
      "serial=s,queue_affinity=[0@[1,2],1@3-5],backing_files=on,sparse=off,image_type=qcow2,lock_granularity=full," +
      "id=d,iommu=on,pci_segment=1,pci_device_id=3,_disable_io_uring=on,_disable_aio=on",
  );
  assert.deepEqual(disk, {
    id: "d",
    iommu: true,
    pci_segment: 1,
    pci_device_id: 3,
    path: "/a",
    readonly: true,
    direct: true,
    num_queues: 2,
    queue_size: 64,
    vhost_user: true,
    vhost_socket: "/s",
    rate_limit_group: "g",
    disable_io_uring: true,
    disable_aio: true,
    serial: "s",
    queue_affinity: [{ queue_index: 0, host_cpus: [1, 2] }, { queue_index: 1, host_cpus: [3, 4, 5] }],
    backing_files: true,
    sparse: false,
    image_type: "Qcow2",
    lock_granularity: "Full",
  });
});

Deno.test("a bucket needs size and refill time", () => {
  const limiter = (text: string) => readDisk(text).rate_limiter_config;
  assert.equal(limiter("bw_size=1"), undefined);
  assert.equal(limiter("bw_size=1,bw_refill_time=0"), undefined);
  assert.equal(limiter("bw_one_time_burst=5"), undefined);
  assert.deepEqual(limiter("bw_size=1,bw_refill_time=2"), {
    bandwidth: { size: 1n, one_time_burst: 0n, refill_time: 2n },
  });
  assert.deepEqual(limiter("ops_size=1,ops_refill_time=2,ops_one_time_burst=3"), {
    ops: { size: 1n, one_time_burst: 3n, refill_time: 2n },
  });
  assert.deepEqual(readRateLimitGroup("id=a"), { id: "a", rate_limiter_config: {} });
});

Deno.test("refused values name option and parameter", () => {
  assert.deepEqual(chain(() => readDisk("foo=1")), ["Error parsing --disk", "Unknown option: foo"]);
  assert.deepEqual(chain(() => readDisk("num_queues=1K")), [
    "Error parsing --disk",
    "Unable to convert 1K for num_queues",
  ]);
  assert.deepEqual(chain(() => readDisk("pci_segment=65536")), [
    "Error parsing common PCI device config",
    "Unable to convert 65536 for pci_segment",
  ]);
  assert.deepEqual(chain(() => readFs("iommu=on,tag=a,socket=b")), [
    "Error parsing --fs",
    "Unknown option: iommu",
  ]);
  assert.deepEqual(chain(() => readPmem("size=x")), ["Error parsing --pmem: file missing"]);
  assert.deepEqual(chain(() => readVsock("cid=3")), ["Error parsing --vsock: socket missing"]);
  assert.deepEqual(chain(() => readVsock("socket=a")), ["Error parsing --vsock: cid missing"]);
});

Deno.test("readFs() counts the tag in bytes", () => {
  assert.equal(readFs(`tag=${"x".repeat(36)},socket=b`).tag.length, 36);
  assert.deepEqual(chain(() => readFs(`tag=${"x".repeat(35)}é,socket=b`)), [
    "Error parsing --fs: max tag length is 36",
  ]);
});

Deno.test("readNet() normalises addresses and keeps descriptors", () => {
  const net = readNet("mac=AA:bb:cc:dd:ee:ff,ip=FE80::0001,mask=,fd=[3,4]");
  assert.equal(net.mac, "aa:bb:cc:dd:ee:ff");
  assert.equal(net.ip, "fe80::1");
  assert.equal("mask" in net, false);
  assert.deepEqual(net.fds, [3, 4]);
});

Deno.test("readGenericVhostUser() takes numbers and names", () => {
  const type = (text: string) => readGenericVhostUser(`socket=a,queue_sizes=[1],${text}`).device_type;
  assert.equal(type("device_type=fs"), 26);
  assert.equal(type("device_type=4294967295"), 4294967295);
  assert.equal(type("virtio_id=5"), 5);
  assert.equal(type("virtio_id=5,device_type=6"), 6);
  const refused = (text: string) =>
    chain(() => type(text))[0].replace("Error parsing --generic-vhost-user: ", "");
  assert.equal(refused("device_type=01"), 'device_type "01" invalid (leading zeros or unknown string)');
  assert.equal(
    refused("device_type=constructor"),
    'device_type "constructor" invalid (leading zeros or unknown string)',
  );
  assert.equal(
    refused("device_type=iommu"),
    'device with device_type "iommu" cannot be implemented via vhost-user',
  );
  assert.equal(refused("device_type="), "device_type missing");
});

Deno.test("an empty value counts as not given", () => {
  assert.deepEqual(readBalloon("size=,deflate_on_oom=").size, 0n);
  assert.deepEqual(readDevice("x_exclude_mmap_bars=").x_exclude_mmap_bars, []);
  assert.equal(readDisk("sparse=,path=").sparse, true);
  assert.equal("path" in readDisk("path="), false);
  assert.equal(readDisk('path=""').path, "");
});

Deno.test("keys that objects inherit are unknown", () => {
  for (const key of ["constructor", "__proto__", "toString"]) {
    assert.deepEqual(chain(() => readDisk(`${key}=1`)), ["Error parsing --disk", `Unknown option: ${key}`]);
  }
  assert.deepEqual(
    chain(() => readDisk("image_type=constructor"))[1],
    "Unable to convert constructor for image_type",
  );
});
