/**
 * Where a fault lies, for the log: answers have the original's words, which often name neither field nor file.
 *
 * L0, any isolate. Source: spec/rest-api.md §1.2.
 */
import { ConfigError } from "./config_error.ts";
import { subjectOf } from "./vmm_error.ts";

/** Longest value shown, in characters. */
const MAX_VALUE_SHOWN = 120;

/** `text`, cut after `most` characters. */
export function shortened(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** The messages of a chain as one line of the log: control characters a client sent are shown, not carried out. */
export function chainLine(messages: readonly string[]): string {
  return messages.join(": ").replaceAll(
    /[\p{Cc}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}

function valueText(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  const plain = (_key: string, part: unknown) => typeof part === "bigint" ? Number(part) : part;
  return shortened(JSON.stringify(value, plain) ?? "missing", MAX_VALUE_SHOWN);
}

/**
 * The file a system call failed at, or the field and value that break a rule, as ` (disks[1].num_queues: 9)`; empty where
 * neither is known. Never throws.
 */
export function placeOf(error: unknown): string {
  const subject = subjectOf(error);
  if (subject !== undefined) return ` (${subject})`;
  if (!(error instanceof ConfigError) || error.fieldPath === "") return "";
  return ` (${error.fieldPath}: ${valueText(error.value)})`;
}
