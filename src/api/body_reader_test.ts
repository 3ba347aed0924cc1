import assert from "node:assert/strict";
import { log } from "@vmm/log/logger.ts";
import { descriptorsFit, type OperationWithBody, readBody } from "./body_reader.ts";

/** Number of `-v`. */
const INFO = 1;

/** Texts of the lines `action` writes, with their levels. */
async function logged(action: () => void): Promise<string[]> {
  const file = await Deno.makeTempFile();
  log.configure({ verbosity: INFO, file, format: "{level} {msg}" });
  action();
  const text = await Deno.readTextFile(file);
  await Deno.remove(file);
  return text.split("\n").slice(0, -1);
}

const read = (operation: OperationWithBody, body: unknown) => {
  const result = readBody(operation, new TextEncoder().encode(JSON.stringify(body)));
  assert.ok(result.ok);
  return result.body;
};

Deno.test("readBody() forgets descriptor numbers and warns of them", async () => {
  const lines = await logged(() => {
    assert.ok(!("fds" in read("vm.add-net", { fds: [5, 6] })));
    assert.ok(!("fd" in read("vm.add-device", { id: "v", fd: 3 })));
    read("vm.add-net", { id: "without" });
    read("vm.create", { net: [{ id: "a" }, { id: "b", fds: [1] }], devices: [{ id: "c", fd: 1 }] });
  });
  const ignored = "are ignored: descriptors come beside the body";
  assert.deepEqual(lines, [
    `WARN vm.add-net: Descriptor numbers of a device without id ${ignored}`,
    `WARN vm.add-device: Descriptor numbers of device "v" ${ignored}`,
    `WARN vm.create: Descriptor numbers of device "b" ${ignored}`,
    `WARN vm.create: Descriptor numbers of device "c" ${ignored}`,
  ]);
});

Deno.test("descriptorsFit() counts those a restored VM needs, and tells when they do not fit", async () => {
  const body = { source_url: "file:///s", prefault: false, net_fds: [{ id: "n", num_fds: 2 }] };
  const lines = await logged(() => {
    const restore = read("vm.restore", body) as Parameters<typeof descriptorsFit<"vm.restore">>[1];
    assert.ok(descriptorsFit("vm.restore", restore, 2));
    assert.ok(!descriptorsFit("vm.restore", restore, 1));
  });
  assert.deepEqual(lines, ["INFO vm.restore: Bad Request: the body does not go with 1 descriptors"]);
});
