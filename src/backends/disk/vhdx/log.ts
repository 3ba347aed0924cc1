/**
 * The log of a VHDX image: changes of metadata that its last writer may not have finished.
 *
 * L4, I/O Worker, while an image is attached for writing. Replaying is safe to interrupt: it can be done again.
 * Source: MS-VHDX 8.0 §2.3.
 */
import { ImageFault } from "../disk_error.ts";
import { must } from "../host_failure.ts";
import type { ImageFile } from "../image_file.ts";
import { crc32c } from "./crc32c.ts";
import { ALIGNMENT_BYTES, textAt, type VhdxHeader } from "./structures.ts";

const SECTOR_BYTES = 4096;
const ENTRY_HEADER_BYTES = 64;
const DESCRIPTOR_BYTES = 32;
const CHECKSUM_AT = 4;
const MAX_LOG_BYTES = 64 << 20;

/** Offsets in an entry's header. */
const Entry = {
  length: 8,
  tail: 12,
  sequenceNumber: 16,
  descriptorCount: 24,
  logGuid: 32,
  flushedFileOffset: 48,
  lastFileOffset: 56,
} as const;

/** Offsets in a descriptor, which holds the bytes that the data sector gave up for its marks (§2.3.1). */
const Descriptor = { trailingBytes: 4, leadingBytes: 8, zeroLength: 8, fileOffset: 16 } as const;
const LEADING_BYTES = 8;
const TRAILING_BYTES = 4;

/** Offsets of a data sector's marks: its signature and the halves of its sequence number. */
const DataSector = { sequenceHigh: 4, sequenceLow: SECTOR_BYTES - TRAILING_BYTES } as const;

interface LogEntry {
  readonly at: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly sequenceNumber: bigint;
  readonly tail: number;
}

/** Carries out what the log says. @throws ImageFault when it makes no sense, HostFailure */
export function replayLog(file: ImageFile, header: VhdxHeader): void {
  if (header.logGuid === undefined) return;
  const { logOffset, logLength } = header;
  if (
    logLength === 0 || logLength > MAX_LOG_BYTES || logLength % ALIGNMENT_BYTES !== 0 ||
    logOffset < ALIGNMENT_BYTES || logOffset % ALIGNMENT_BYTES !== 0
  ) throw new ImageFault("Corrupt image", "The VHDX log lies where it cannot be");
  const log = new Uint8Array(logLength);
  if (must(file.readBytes(log, logOffset), "read log") < logLength) {
    throw new ImageFault("Corrupt image", "The VHDX log is cut off");
  }
  const sequence = activeSequence(log, header.logGuid);
  if (sequence.length === 0) throw new ImageFault("Corrupt image", "The VHDX log has no valid entries");
  const last = sequence[sequence.length - 1];
  const flushed = Number(last.view.getBigUint64(Entry.flushedFileOffset, true));
  if (file.sizeBytes() < flushed) throw new ImageFault("Corrupt image", "The VHDX image is cut off");
  for (const entry of sequence) apply(file, entry);
  const wanted = Number(last.view.getBigUint64(Entry.lastFileOffset, true));
  if (file.sizeBytes() < wanted && !file.isBlockDevice) must(file.setSize(wanted), "extend image");
  must(file.sync(), "sync image");
}

/** The valid run of entries with the highest sequence number (§2.3.2). */
function activeSequence(log: Uint8Array<ArrayBuffer>, guid: Uint8Array): LogEntry[] {
  let best: LogEntry[] = [];
  for (let start = 0; start < log.length; start += SECTOR_BYTES) {
    const run = runFrom(log, start, guid);
    if (run.length === 0) continue;
    const newest = run[run.length - 1];
    // A run is complete only if its last entry says that it begins where it does.
    const isComplete = run.some((entry) => entry.at === newest.tail);
    if (!isComplete) continue;
    if (best.length > 0 && best[best.length - 1].sequenceNumber >= newest.sequenceNumber) continue;
    best = run.slice(run.findIndex((entry) => entry.at === newest.tail));
  }
  return best;
}

/** Entries one after the other from `start`, with numbers going up by one. */
function runFrom(log: Uint8Array<ArrayBuffer>, start: number, guid: Uint8Array): LogEntry[] {
  const run: LogEntry[] = [];
  let at = start;
  let covered = 0;
  while (covered < log.length) {
    const entry = readEntry(log, at, guid);
    if (entry === undefined) break;
    if (run.length > 0 && entry.sequenceNumber !== run[run.length - 1].sequenceNumber + 1n) break;
    run.push(entry);
    covered += entry.bytes.length;
    at = (at + entry.bytes.length) % log.length;
  }
  return run;
}

function readEntry(log: Uint8Array<ArrayBuffer>, at: number, guid: Uint8Array): LogEntry | undefined {
  if (textAt(log, at, 4) !== "loge") return undefined;
  const lengthBytes = new DataView(log.buffer).getUint32(at + Entry.length, true);
  if (lengthBytes === 0 || lengthBytes % SECTOR_BYTES !== 0 || lengthBytes > log.length) return undefined;
  const bytes = new Uint8Array(lengthBytes);
  const first = Math.min(lengthBytes, log.length - at);
  bytes.set(log.subarray(at, at + first));
  bytes.set(log.subarray(0, lengthBytes - first), first); // the log is a ring
  const view = new DataView(bytes.buffer);
  if (view.getUint32(CHECKSUM_AT, true) !== crc32c(bytes, CHECKSUM_AT)) return undefined;
  if (!guid.every((byte, i) => bytes[Entry.logGuid + i] === byte)) return undefined;
  const sequenceNumber = view.getBigUint64(Entry.sequenceNumber, true);
  return sequenceNumber === 0n
    ? undefined
    : { at, bytes, view, sequenceNumber, tail: view.getUint32(Entry.tail, true) };
}

/** Writes the sectors of one entry to their places. */
function apply(file: ImageFile, entry: LogEntry): void {
  const { view, bytes } = entry;
  const count = view.getUint32(Entry.descriptorCount, true);
  const damaged = () => new ImageFault("Corrupt image", "A VHDX log entry makes no sense");
  const descriptorsEnd = ENTRY_HEADER_BYTES + count * DESCRIPTOR_BYTES;
  if (descriptorsEnd > bytes.length) throw damaged();
  let dataAt = Math.ceil(descriptorsEnd / SECTOR_BYTES) * SECTOR_BYTES;
  for (let at = ENTRY_HEADER_BYTES; at < descriptorsEnd; at += DESCRIPTOR_BYTES) {
    const kind = textAt(bytes, at, 4);
    const fileOffset = Number(view.getBigUint64(at + Descriptor.fileOffset, true));
    if (fileOffset % SECTOR_BYTES !== 0 || fileOffset > 2 ** 52) throw damaged();
    if (kind === "zero") {
      const lengthBytes = Number(view.getBigUint64(at + Descriptor.zeroLength, true));
      if (lengthBytes % SECTOR_BYTES !== 0 || lengthBytes > MAX_LOG_BYTES) throw damaged();
      if (lengthBytes > 0) must(file.writeBytes(new Uint8Array(lengthBytes), fileOffset), "write zeroes");
      continue;
    }
    if (kind !== "desc" || dataAt + SECTOR_BYTES > bytes.length || textAt(bytes, dataAt, 4) !== "data") {
      throw damaged();
    }
    const number = BigInt(view.getUint32(dataAt + DataSector.sequenceHigh, true)) << 32n |
      BigInt(view.getUint32(dataAt + DataSector.sequenceLow, true));
    if (number !== entry.sequenceNumber) throw damaged();
    const sector = bytes.slice(dataAt, dataAt + SECTOR_BYTES);
    const [leading, trailing] = [at + Descriptor.leadingBytes, at + Descriptor.trailingBytes];
    sector.set(bytes.subarray(leading, leading + LEADING_BYTES), 0);
    sector.set(bytes.subarray(trailing, trailing + TRAILING_BYTES), DataSector.sequenceLow);
    must(file.writeBytes(sector, fileOffset), "write sector");
    dataAt += SECTOR_BYTES;
  }
}
