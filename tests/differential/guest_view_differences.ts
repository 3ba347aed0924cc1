/**
 * What a guest may see otherwise than with the original: each entry is a row of `docs/differences.md`.
 *
 * Tests only.
 *
 * @module
 */

/** One allowed difference. */
export interface AllowedDifference {
  /** Names of the views it may be seen in. */
  readonly view: RegExp;
  /** Words of the row in `docs/differences.md` that describes it. */
  readonly row: string;
  /** Makes both texts the same where only this difference is between them; without it, any difference is allowed. */
  readonly level?: (text: string) => string;
}

/** Everything allowed. */
export const ALLOWED_DIFFERENCES: readonly AllowedDifference[] = [
  {
    view: /^platform page \d readl$/,
    row: "Wide reads of the one-byte notification register",
    level: (text) => text.replace(/^ffffff00 ffffffff\*7$/, "ffffffff*8"),
  },
  { view: /^PCI .* further functions$/, row: "Functions 1 to 7 of a PCI slot" },
  {
    view: /^PCI .* region 4 readb$/,
    row: "Link status of virtio-net before the driver starts",
    level: (text) =>
      text.replace(
        /^(000000.. 000000.. 000000.. 000000.. 000000.. 000000..) 00000001 00000000 /,
        "$1 00000000*2 ",
      ),
  },
  {
    view: /^PCI .* region 4 readl$/,
    row: "Link status of virtio-net before the driver starts",
    level: (text) => text.replace(/^(\S{8}) 0001(\S{4}) (\S{8})$/, "$1 0000$2 $3"),
  },
];

/** True if `ours` may be what it is where the original shows `theirs`; a missing view is an empty text. */
export function isAllowed(view: string, theirs: string, ours: string): boolean {
  return theirs === ours ||
    ALLOWED_DIFFERENCES.some((allowed) =>
      allowed.view.test(view) &&
      (allowed.level === undefined || allowed.level(theirs) === allowed.level(ours))
    );
}
