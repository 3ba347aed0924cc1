/**
 * Prints the events of a VMM that listens, one per line, until it ends.
 *
 * `deno run -A examples/watch_events.ts <socket>`
 *
 * @module
 */
import { VmmClient } from "../mod.ts";

const [socketPath] = Deno.args;
if (socketPath === undefined) {
  console.error("Usage: watch_events.ts <socket>");
  Deno.exit(2);
}

for await (const { timestamp, source, event, properties } of new VmmClient(socketPath).events()) {
  const seconds = timestamp.secs + timestamp.nanos / 1e9;
  const details = Object.entries(properties ?? {}).map(([key, value]) => ` ${key}=${value}`).join("");
  console.log(`${seconds.toFixed(6)} ${source} ${event}${details}`);
}
