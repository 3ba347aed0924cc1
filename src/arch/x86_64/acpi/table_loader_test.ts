import assert from "node:assert/strict";
import { checksum8 } from "@vmm/arch/x86_64/byte_writer.ts";
import { planControllers, planMemory, planSegments } from "@vmm/arch/x86_64/layout.ts";
import { resolveTopology } from "@vmm/arch/x86_64/topology.ts";
import { loadableTables } from "./table_loader.ts";
import { buildAcpi } from "./tables.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");

/** Does what firmware does with the files, at addresses of its own. */
function firmware(
  files: Record<string, Uint8Array<ArrayBuffer>>,
  loader: Uint8Array,
  places: Record<string, number>,
) {
  const allocated: string[] = [];
  for (let at = 0; at < loader.byteLength; at += 128) {
    const command = new DataView(loader.buffer, loader.byteOffset + at, 128);
    const name = (offset: number) => text(loader.subarray(at + offset, at + offset + 56));
    switch (command.getUint32(0, true)) {
      case 1:
        allocated.push(name(4));
        break;
      case 2: {
        const file = files[name(4)];
        const view = new DataView(file.buffer, file.byteOffset);
        const offset = command.getUint32(116, true);
        assert.equal(command.getUint8(120), 8);
        view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(places[name(60)]), true);
        break;
      }
      case 3: {
        const file = files[name(4)];
        const [result, start, length] = [60, 64, 68].map((field) => command.getUint32(field, true));
        assert.equal(file[result], 0);
        file[result] = checksum8(file.subarray(start, start + length));
        break;
      }
      default:
        assert.fail("an unknown command");
    }
  }
  return allocated;
}

Deno.test("firmware that follows the commands gets tables that are linked and summed up", () => {
  const memory = planMemory({
    zones: [{ id: "mem0", sizeBytes: 512 << 20 }],
    userZones: false,
    hotplugMethod: "Acpi",
    physBits: 46,
  });
  const placed = buildAcpi({
    bootVcpus: 2,
    maxVcpus: 2,
    topology: resolveTopology(undefined, 2),
    memory,
    segments: planSegments(memory, [{ mmio32: 1, mmio64: 1 }]),
    controllers: planControllers(memory),
    serial: true,
    fwCfg: true,
  });
  const { loader, rsdp, tables } = loadableTables(placed);
  const base = 0x1234_5000;
  const files = { "acpi/rsdp": rsdp, "acpi/tables": tables };
  assert.deepEqual(firmware(files, loader, { "acpi/tables": base }), ["acpi/rsdp", "acpi/tables"]);
  assert.equal(checksum8(rsdp.subarray(0, 20)), 0);
  assert.equal(checksum8(rsdp), 0);
  const at = (gpa: bigint) => Number(gpa) - base;
  const view = new DataView(tables.buffer, tables.byteOffset);
  const table = (start: number) => {
    const bytes = tables.subarray(start, start + view.getUint32(start + 4, true));
    assert.equal(checksum8(bytes), 0);
    return text(bytes.subarray(0, 4));
  };
  const xsdt = at(new DataView(rsdp.buffer, rsdp.byteOffset).getBigUint64(24, true));
  assert.equal(table(xsdt), "XSDT");
  const entries = (view.getUint32(xsdt + 4, true) - 36) / 8;
  const listed = Array.from({ length: entries }, (_, i) => at(view.getBigUint64(xsdt + 36 + 8 * i, true)));
  assert.deepEqual(listed.map(table), ["FACP", "APIC", "MCFG"]);
  assert.equal(table(at(view.getBigUint64(listed[0] + 140, true))), "DSDT");
});
