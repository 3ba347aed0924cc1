/**
 * The TPM: a swtpm process behind the command response buffer.
 *
 * L5, main isolate.
 */
import type { TpmConfig } from "@schemas/api/assigned_device.ts";
import { type ConnectedTpm, connectTpm } from "@vmm/backends/tpm/connect.ts";
import { CRB_DATA_BYTES } from "@vmm/devices/tpm/crb.ts";
import { ContextError } from "@vmm/errors/context_error.ts";

/** Takes the configured swtpm over; undefined when none is configured. @throws ContextError naming the socket */
export async function plugTpm(config: TpmConfig | undefined): Promise<ConnectedTpm | undefined> {
  if (config === undefined) return undefined;
  try {
    return await connectTpm(config.socket, CRB_DATA_BYTES);
  } catch (cause) {
    throw new ContextError(
      ["Error from device manager", `Cannot create a TPM on the socket "${config.socket}"`],
      cause,
    );
  }
}
