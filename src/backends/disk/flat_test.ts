import assert from "node:assert/strict";
import { attachDisk } from "./attach.ts";
import type { DiskError } from "./disk_error.ts";
import { openDisk } from "./open.ts";
import { diskRequest, pattern, readDisk, withDirectory, writeDisk } from "./testing/images.ts";
import { parseDescriptor } from "./vmdk/descriptor.ts";

const descriptor = (extents: string) =>
  `# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n\n` +
  `# Extent description\n${extents}\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = "4"\n`;

Deno.test("flat VMDK crosses extents, shares files and refuses what an extent does not allow", async () => {
  await withDirectory((directory) => {
    Deno.writeFileSync(`${directory}/a.vmdk`, new Uint8Array(8192));
    Deno.writeFileSync(`${directory}/b.vmdk`, new Uint8Array(4096).fill(3));
    const path = `${directory}/disk.vmdk`;
    Deno.writeTextFileSync(
      path,
      descriptor(
        'RW 8 FLAT "a.vmdk" 0\nRW 8 FLAT "a.vmdk" 8\nRDONLY 8 FLAT "b.vmdk" 0\nNOACCESS 8 FLAT "none" 0',
      ),
    );
    const opened = openDisk(diskRequest(path));
    assert.equal(opened.imageType, "FlatVmdk");
    const disk = attachDisk(opened.description);
    assert.equal(disk.sizeBytes, 16384);
    writeDisk(disk, 3584, pattern(1024, 1));
    assert.deepEqual(Deno.readFileSync(`${directory}/a.vmdk`).subarray(3584, 4608), pattern(1024, 1));
    assert.deepEqual(readDisk(disk, 7680, 1024).subarray(512), new Uint8Array(512).fill(3));
    assert.throws(() => writeDisk(disk, 8192, pattern(512, 1)), /-30/);
    assert.throws(() => readDisk(disk, 12288, 512), /-5/);
    assert.throws(() => writeDisk(disk, 16384, pattern(512, 1)), /-28/);
    assert.equal(disk.resize(32768), -95);
    assert.equal(disk.discard(0, 0, 512), -95);
    disk.close();
    opened.close();
  });
});

Deno.test("openDisk() refuses a VMDK whose extents cannot be had", async () => {
  await withDirectory((directory) => {
    const path = `${directory}/disk.vmdk`;
    const chainOf = (extents: string) => {
      Deno.writeTextFileSync(path, descriptor(extents));
      try {
        openDisk(diskRequest(path)).close();
      } catch (error) {
        return (error as DiskError).chain();
      }
      return [];
    };
    assert.equal(chainOf('RW 8 FLAT "gone.vmdk" 0')[2], "No such file or directory (os error 2)");
    Deno.writeFileSync(`${directory}/short.vmdk`, new Uint8Array(100));
    assert.deepEqual(chainOf('RW 8 FLAT "short.vmdk" 0').slice(0, 2), [
      "Cannot open disk path",
      `Out of bounds (path=${path} op=open)`,
    ]);
    Deno.symlinkSync(`${directory}/short.vmdk`, `${directory}/link.vmdk`);
    assert.match(chainOf('RW 0 FLAT "short.vmdk" 0')[2], /zero size/);
    assert.match(chainOf('RW 1 FLAT "link.vmdk" 0')[2], /os error 40/);
  });
});

Deno.test("parseDescriptor() explains what is wrong", () => {
  const parse = (text: string) => parseDescriptor(new TextEncoder().encode(text));
  assert.equal(typeof parse("KDMV"), "string");
  assert.equal(parse("# Disk DescriptorFile\nversion=1\n"), "Expected the extents section comment line");
  assert.equal(parse(descriptor('XX 8 FLAT "a" 0')), "unsupported VMDK extent access mode 'XX'");
  assert.equal(parse(descriptor('RW 8x FLAT "a" 0')), "VMDK extent size '8x' is not a valid sector count");
  assert.equal(parse(descriptor("RW 8 FLAT")), "Malformed VMDK extent line");
  assert.equal(parseDescriptor(Uint8Array.of(0x23, 0xff)), "VMDK descriptor is not valid UTF-8");
  const parsed = parse(descriptor('RW 16 FLAT "with space.vmdk" 2'));
  assert.ok(typeof parsed !== "string");
  assert.deepEqual(parsed.extents, [
    { access: "RW", lengthBytes: 8192, type: "FLAT", fileName: "with space.vmdk", fileOffset: 1024 },
  ]);
});
