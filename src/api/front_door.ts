/**
 * What carries requests to the router.
 *
 * L6, types only.
 */
import type { OwnConnection } from "./http1/own_connection.ts";

/** A running front door. */
export interface FrontDoor {
  /** Takes nothing new any more and gives answers under way a moment. */
  close(): Promise<void>;
  /** Connects to itself; what is asked there is answered as to clients, and not counted. @throws Error when it cannot be reached */
  connectToSelf?(): OwnConnection;
}
