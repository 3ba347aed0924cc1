/**
 * What the program shows of itself at start in its own personality; the drop-in personality prints nothing.
 *
 * L6, pure. Source: spec/seed-api.txt "REST API Location and availability".
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";

const MIB = 1n << 20n;
const DEFAULT_VCPUS = 1;
const DEFAULT_MEMORY_BYTES = 512n * MIB;

/** The banner, with line ends. `apiServer` is a path or a descriptor's name, undefined without API. */
export function startBanner(apiServer: string | undefined, config: VmConfig | undefined): string {
  const payload = config?.payload;
  const memoryBytes = (config?.memory.zones ?? []).reduce(
    (sum, { size }) => sum + size,
    config?.memory.size ?? DEFAULT_MEMORY_BYTES,
  );
  const disks = (config?.disks ?? []).map((disk) => disk.path ?? disk.vhost_socket ?? "None");
  const lines = [
    "Cloud Hypervisor Guest",
    `    API server: ${apiServer ?? "None"}`,
    `    vCPUs: ${config?.cpus.boot_vcpus ?? DEFAULT_VCPUS}`,
    `    Memory: ${memoryBytes / MIB} MB`,
    `    Kernel: ${payload?.kernel ?? payload?.firmware ?? "None"}`,
    `    Kernel cmdline: ${payload?.cmdline ?? ""}`,
    `    Disk(s): ${disks.length === 0 ? "None" : disks.join(", ")}`,
  ];
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}
