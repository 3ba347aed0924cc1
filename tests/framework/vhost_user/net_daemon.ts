/**
 * A vhost-user network back-end over a tap, made of this project's own network handler.
 *
 * Arguments: `{"socket", "tap", "connect", "queuePairs", "mac"}` as one JSON text.
 *
 * @module
 */
import { openTap } from "@vmm/backends/net/tap.ts";
import { attachTaps } from "@vmm/backends/net/tap_port.ts";
import { parseMac } from "@vmm/base/mac_address.ts";
import { createNetCounters } from "@vmm/devices/virtio/net/counters.ts";
import { createNetHandler } from "@vmm/devices/virtio/net/handler.ts";
import { NetConfigSchema } from "@schemas/api/net.ts";
import { Daemon } from "./daemon.ts";

/** EVENT_IDX, INDIRECT_DESC, VERSION_1; MAC, MTU, STATUS, CTRL_VQ, MQ, GUEST_ANNOUNCE. */
const FEATURES = 1n << 29n | 1n << 28n | 1n << 32n | 1n << 5n | 1n << 16n | 1n << 17n | 1n << 21n | 1n << 22n;
/** MQ, REPLY_ACK, CONFIG, INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS. */
const PROTOCOL_FEATURES = 1n | 1n << 3n | 1n << 9n | 1n << 12n | 1n << 15n;
const CONFIG_BYTES = 24;

const { socket, tap, connect = false, queuePairs = 1, mac } = JSON.parse(Deno.args[0]);
const opened = openTap(NetConfigSchema.parse({ tap, num_queues: 2 * queuePairs }));
const ports = attachTaps(opened.fds);
const config = new Uint8Array(CONFIG_BYTES);
if (mac !== undefined) config.set(parseMac(mac)!);
const daemon = new Daemon({
  features: FEATURES,
  protocolFeatures: PROTOCOL_FEATURES,
  queueCount: 2 * queuePairs,
  config,
  start: (activation) =>
    createNetHandler({
      ...activation,
      // The control queue stays with the front-end.
      featuresLow: activation.featuresLow & ~(1 << 17),
      backend: { fds: opened.fds, counters: createNetCounters() },
    }, { ports, nowMs: () => performance.now() }),
  onEnabled: (handler, rings) => (handler as unknown as { setPairs(n: number): void }).setPairs(rings / 2),
});
if (connect) daemon.connect(socket);
else daemon.listen(socket);
