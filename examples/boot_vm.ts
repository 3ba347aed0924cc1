/**
 * Creates and boots a VM with the given kernel on a VMM that listens, and prints where it stands.
 *
 * `deno run -A examples/boot_vm.ts <socket> <kernel> [<initramfs>]`
 *
 * @module
 */
import { ApiError, VmmClient } from "../mod.ts";

const [socketPath, kernel, initramfs] = Deno.args;
if (kernel === undefined) {
  console.error("Usage: boot_vm.ts <socket> <kernel> [<initramfs>]");
  Deno.exit(2);
}

const vmm = new VmmClient(socketPath);
try {
  const { version, pid } = await vmm.ping();
  console.log(`VMM ${version}, process ${pid}`);
  await vmm.create({
    payload: { kernel, initramfs, cmdline: "console=ttyS0 quiet panic=-1" },
    memory: { size: 128n << 20n },
    console: { mode: "Off" },
    serial: { mode: "Null" },
  });
  await vmm.boot();
  const { state, memory_actual_size } = await vmm.info();
  console.log(`${state}, ${memory_actual_size >> 20n} MiB`);
} catch (error) {
  if (!(error instanceof ApiError)) throw error;
  console.error(`${error.endpoint}: ${error.messages.join(": ")}`);
  Deno.exit(1);
}
