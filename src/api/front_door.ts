/**
 * What carries requests to the router.
 *
 * L6, types only.
 */

/** A running front door. */
export interface FrontDoor {
  /** Takes nothing new any more and gives answers under way a moment. */
  close(): Promise<void>;
}
