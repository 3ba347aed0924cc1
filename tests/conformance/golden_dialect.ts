/**
 * The golden file of the drop-in dialect: the bytes the original answers with.
 *
 * Tests only. Recorded by `REFERENCE_VMM=… deno run -A tests/conformance/golden_dialect.ts`.
 */
import { join } from "node:path";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, SocketMessage } from "@ffi/libc/socket.ts";
import { ROOT } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { DIALECT_CASES } from "./dialect_cases.ts";
import { scaled } from "@tests/framework/deadline.ts";

const PATH = join(ROOT, "tests", "golden", "http_dialect.json");
/** How long silence has to last to be taken for the end of an answer. */
const SILENCE_MS = 60;
/** How long an answer that is expected may take. */
const PATIENCE_MS = scaled(120_000);

const message = new SocketMessage(1 << 16);

/** Answers by case name: one text per part sent, characters are bytes (Latin-1). */
export type GoldenDialect = Record<string, string[]>;

/** The recorded answers. */
export function readGoldenDialect(): GoldenDialect {
  return JSON.parse(Deno.readTextFileSync(PATH));
}

/** Text of the parts as bytes. */
export function latin1(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Numbers that differ from run to run, made equal; the length header follows. */
export function withoutVariables(answer: string): string {
  return answer
    .replace(/\{"build_version":[^}]*\}/g, "{ping}")
    .replace(/Content-Length: \d+(?=\r\n\r\n\{ping\})/g, "Content-Length: n");
}

/** Sends the parts of a case on a new connection; the answers as they came. */
export async function converse(
  socketPath: string,
  parts: readonly string[],
  expected?: readonly string[],
): Promise<string[]> {
  const fd = connectUnix(socketPath);
  try {
    const answers: string[] = [];
    for (const [index, part] of parts.entries()) {
      message.send(fd, latin1(part));
      answers.push(withoutVariables(await receive(fd, expected?.[index])));
    }
    return answers;
  } finally {
    close(fd);
  }
}

/** Reads until `expected` has come, or there is silence. */
async function receive(fd: number, expected: string | undefined): Promise<string> {
  let text = "";
  let deadline = performance.now() + (expected ? PATIENCE_MS : SILENCE_MS);
  while (performance.now() < deadline) {
    const count = message.receive(fd);
    if (count === 0) return text;
    if (count > 0) {
      text += Array.from(message.data.subarray(0, count), (byte) => String.fromCharCode(byte)).join("");
      if (expected === undefined) deadline = performance.now() + SILENCE_MS;
      else if (withoutVariables(text).length >= expected.length) return text;
    } else {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
  return text;
}

if (import.meta.main) {
  const golden: GoldenDialect = {};
  await using vm = await Vm.start({ program: "reference" });
  for (const [name, parts] of Object.entries(DIALECT_CASES)) {
    golden[name] = await converse(vm.api.socketPath, parts);
  }
  Deno.writeTextFileSync(PATH, `${JSON.stringify(golden, null, 2)}\n`);
}
