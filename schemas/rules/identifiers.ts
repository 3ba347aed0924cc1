/**
 * The one namespace of device, zone and rate limit group identifiers.
 *
 * L0, pure. Source: spec/schemas.md rule 19.
 */
import { fault, type Faults } from "./fault.ts";

/** Identifiers beginning so belong to the VMM's own devices. */
const RESERVED_PREFIX = "__";

/** Identifiers taken so far. */
export class Identifiers {
  private readonly taken = new Set<string>();

  /** Takes `id` found at `fieldPath`; an absent one is generated later and needs no check. */
  *take(id: string | undefined, fieldPath: string): Faults {
    if (id === undefined) return;
    if (id.startsWith(RESERVED_PREFIX)) yield fault(`Identifier ${id} is not valid`, fieldPath, id);
    if (this.taken.has(id)) yield fault(`Identifier ${id} is not unique`, fieldPath, id, 409);
    this.taken.add(id);
  }
}
