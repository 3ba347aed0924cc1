/**
 * A vhost-user back-end that serves nothing and prints every message as a line of JSON.
 *
 * Arguments: `{"socket", "connect", "features", "protocolFeatures", "queueCount", "config"}` as one JSON text; masks in
 * hexadecimal text, the configuration as hexadecimal bytes.
 *
 * @module
 */
import { Daemon } from "./daemon.ts";

const options = JSON.parse(Deno.args[0]);
const daemon = new Daemon({
  features: BigInt(`0x${options.features}`),
  protocolFeatures: BigInt(`0x${options.protocolFeatures}`),
  queueCount: options.queueCount,
  config: options.config === undefined ? undefined : Uint8Array.fromHex(options.config),
  onMessage: (message) => console.log(JSON.stringify(message)),
});
if (options.connect) daemon.connect(options.socket);
else daemon.listen(options.socket);
