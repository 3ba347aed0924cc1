import assert from "node:assert/strict";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { remoteBody } from "./bodies.ts";
import { writeBody } from "./body.ts";
import { REMOTE_COMMANDS } from "./commands.ts";

const noInput = () => new Uint8Array();

function body(name: string, word?: string, options: Record<string, string> = {}): string {
  const values = new Map(Object.entries(options).map(([key, value]) => [key, [value]]));
  return new TextDecoder().decode(remoteBody(name, { word, options: values }, noInput).body);
}

function fds(name: string, word: string): readonly number[] {
  return remoteBody(name, { word, options: new Map() }, noInput).fds;
}

function chain(name: string, word?: string, options: Record<string, string> = {}): string[] {
  try {
    body(name, word, options);
  } catch (error) {
    return messagesOf(error);
  }
  return [];
}

Deno.test("writeBody() keeps 64-bit integers and leaves absent fields out", () => {
  assert.equal(
    writeBody({ a: 2n ** 64n - 1n, b: undefined, c: null, d: [1, "x"], iommu: false, e: { iommu: true } }),
    '{"a":18446744073709551615,"c":null,"d":[1,"x"],"e":{"iommu":true}}',
  );
});

Deno.test("devices are written as the original writes them", () => {
  assert.equal(
    body("add-disk", "path=/a,bw_size=1,bw_refill_time=2"),
    '{"pci_segment":0,"path":"/a","readonly":false,"direct":false,"num_queues":1,"queue_size":128,' +
      '"vhost_user":false,"rate_limiter_config":{"bandwidth":{"size":1,"one_time_burst":0,"refill_time":2},' +
      '"ops":null},"disable_io_uring":false,"disable_aio":false,"backing_files":false,"sparse":true,' +
      '"image_type":"Unknown","lock_granularity":"ByteRange"}',
  );
  assert.equal(
    body("add-vsock", "socket=/v,cid=3,iommu=on"),
    '{"iommu":true,"pci_segment":0,"cid":3,"socket":"/v"}',
  );
  assert.equal(body("add-device", "path=/d,fd=5"), '{"pci_segment":0,"path":"/d","x_exclude_mmap_bars":[]}');
  assert.deepEqual(fds("add-device", "fd=5"), [5]);
  assert.deepEqual(fds("add-net", "fd=[3,4]"), [3, 4]);
  assert.doesNotMatch(body("add-net", "fd=[3,4]"), /fds/);
});

Deno.test("restore and migration write all fields", () => {
  const restore = "source_url=file:///s,net_fds=[n@[3,4],m@5],vfio_fds=[v@6],iommufd_fd=7,resume=on";
  assert.equal(
    body("restore", restore),
    '{"source_url":"file:///s","prefault":false,"memory_restore_mode":"Copy","net_fds":[{"id":"n","num_fds":2,' +
      '"fds":null},{"id":"m","num_fds":1,"fds":null}],"vfio_fds":[{"id":"v","fd":null}],"iommufd_fd":null,' +
      '"resume":true,"zone_updates":[]}',
  );
  assert.deepEqual(fds("restore", restore), [3, 4, 5, 6, 7]);
  assert.equal(
    body("receive-migration", "receiver_url=unix:/a"),
    '{"receiver_url":"unix:/a","tls_dir":null,"memory_mode":"Precopy","vfio_fds":null,"iommufd_fd":null,' +
      '"zone_updates":[]}',
  );
  assert.equal(
    body("send-migration", "destination_url=unix:/a,local=on"),
    '{"destination_url":"unix:/a","local":true,"preserve_source":false,"downtime_ms":300,"timeout_s":3600,' +
      '"timeout_strategy":"Cancel","connections":1,"tls_dir":null,"memory_mode":"Precopy"}',
  );
});

Deno.test("migration takes the older form too", () => {
  assert.equal(body("receive-migration", "unix:/a"), body("receive-migration", "receiver_url=unix:/a"));
  assert.equal(body("send-migration", "tcp:h:1"), body("send-migration", "destination_url=tcp:h:1"));
  assert.equal(
    body("send-migration", "unix:/a,b", { local: "" }),
    body("send-migration", 'destination_url="unix:/a,b",local=on'),
  );
});

Deno.test("resize leaves nulls for what stays", () => {
  assert.equal(body("resize"), '{"desired_vcpus":null,"desired_ram":null,"desired_balloon":null}');
  assert.equal(
    body("resize", undefined, { cpus: "+2", memory: "1G", balloon: "4096" }),
    '{"desired_vcpus":2,"desired_ram":1073741824,"desired_balloon":4096}',
  );
  assert.equal(body("resize-zone", undefined, { id: "a", size: "1M" }), '{"id":"a","desired_ram":1048576}');
  assert.equal(body("resize-disk", undefined, { disk: "a", size: "1K" }), '{"id":"a","desired_size":1024}');
});

Deno.test("refused arguments carry the original's chain", () => {
  assert.deepEqual(chain("add-disk", "foo=1"), [
    "Error parsing disk syntax",
    "Error parsing --disk",
    "Unknown option: foo",
  ]);
  assert.deepEqual(chain("resize", undefined, { cpus: "x" }), [
    "Error parsing CPU count",
    "invalid digit found in string",
  ]);
  assert.deepEqual(chain("resize", undefined, { cpus: "4294967296G" }), [
    "Error parsing CPU count",
    "number too large to fit in target type",
  ]);
  assert.deepEqual(chain("resize", undefined, { memory: "1T" }), [
    "Error parsing memory size",
    "Invalid value: 1T",
  ]);
  assert.deepEqual(chain("send-migration", "destination_url=tcp:a:1,connections=0"), [
    "Error parsing send migration configuration",
    "Error parsing send migration parameters",
    "Invalid value: connections must be non-zero",
  ]);
  assert.deepEqual(chain("send-migration", ""), [
    "Error parsing send migration configuration",
    "Error parsing send migration parameters",
    "Invalid syntax: destination_url is required",
  ]);
  assert.deepEqual(chain("receive-migration", "receiver_url=tcp:a:1,tls_dir=/nonexistent"), [
    "Error parsing receive migration configuration",
    "Invalid TLS configuration for receive-migration",
    "TLS directory does not exist or is inaccessible: /nonexistent: No such file or directory (os error 2)",
    "No such file or directory (os error 2)",
  ]);
});

Deno.test("every command with an argument makes a body, the others none", () => {
  for (const { name, argument, options } of REMOTE_COMMANDS) {
    const words: Record<string, string> = {
      "add-fs": "tag=a,socket=b",
      "add-generic-vhost-user": "socket=a,device_type=1,queue_sizes=[1]",
      "add-pmem": "file=a",
      "add-user-device": "socket=a",
      "add-vdpa": "path=a",
      "add-vsock": "cid=3,socket=a",
      create: "-",
      restore: "source_url=a",
      "receive-migration": "unix:/a",
      "send-migration": "unix:/a",
    };
    const given = new Map(["id", "disk", "size"].map((key) => [key, ["1"]]));
    const made = remoteBody(name, { word: words[name] ?? "", options: given }, noInput);
    assert.equal(made.body !== undefined, argument !== undefined || options !== undefined, name);
  }
});
