/**
 * Who this program is, in its own name and in that of the program it stands in for.
 *
 * L0, pure. The own version is the one of deno.json (checked by a test).
 */

/** Version of Nephos. */
export const NEPHOS_VERSION = "0.1.0";

/** Version of Cloud Hypervisor whose interfaces this program has. */
export const COMPATIBLE_VERSION = "54.0.0";

/** The same as `vmm.ping` reports a build. */
export const COMPATIBLE_BUILD_VERSION = `v${COMPATIBLE_VERSION}`;

/** Versions of the migration protocol understood, newest first. */
export const MIGRATION_PROTOCOL_VERSIONS: readonly number[] = [0];

/**
 * Optional features this build has, by the original's names, in its order: dbus_api, fw_cfg, guest_debug, io_uring, kvm,
 * ivshmem. A name is added when the feature works.
 */
export const FEATURES: readonly string[] = ["dbus_api", "fw_cfg", "io_uring", "kvm", "ivshmem"];
