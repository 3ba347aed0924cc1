/**
 * Writes cpio archives ("newc"), to add files to an initramfs: the kernel unpacks archives put one after another.
 *
 * Test framework. Source: kernel Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 * @module
 */

const HEADER_BYTES = 110;
const ALIGNMENT_BYTES = 4;
const S_IFREG = 0o100000;
const TRAILER = "TRAILER!!!";

/** An archive of regular files, mode 0755, by path. Their folders must exist already, or be in an earlier archive. */
export function cpioArchive(files: Record<string, string | Uint8Array>): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  let inode = 1;
  for (const [path, content] of Object.entries(files)) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    parts.push(...member(path, S_IFREG | 0o755, inode++, bytes));
  }
  parts.push(...member(TRAILER, 0, 0, new Uint8Array(0)));
  const total = parts.reduce((sum, part) => sum + part.length, 0);
  const archive = new Uint8Array(total);
  let offset = 0;
  for (const part of parts) {
    archive.set(part, offset);
    offset += part.length;
  }
  return archive;
}

function member(path: string, mode: number, inode: number, content: Uint8Array): Uint8Array[] {
  const name = new TextEncoder().encode(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = "070701" + fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("");
  const head = new Uint8Array(aligned(HEADER_BYTES + name.length));
  head.set(new TextEncoder().encode(header));
  head.set(name, HEADER_BYTES);
  const body = new Uint8Array(aligned(content.length));
  body.set(content);
  return [head, body];
}

function aligned(size: number): number {
  return Math.ceil(size / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}
