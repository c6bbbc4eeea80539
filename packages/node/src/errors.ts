// Errors, each a class with a stable code.

/** The base of every error that this package throws. */
export class CellblockError extends Error {
  /** A stable name of what went wrong, for programs. */
  readonly code: string = "cellblock";

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The host could not be started or reached, or is not one that this client can speak to. */
export class HostUnavailableError extends CellblockError {
  override readonly code = "host_unavailable";
}

/**
 * The host ended or broke the protocol, and with it what was in flight.
 *
 * The next program starts or reaches it again. Whether calls of a lost program had their
 * effect is not known.
 */
export class HostLostError extends CellblockError {
  override readonly code = "host_lost";
}

/** The host refused a request, for the reason in the text. */
export class RefusedError extends CellblockError {
  override readonly code: string = "refused";
}

/** The host or the session has as many cells as it may: wait for one, or terminate one. */
export class BusyError extends RefusedError {
  override readonly code = "busy";
}

/** The request breaks a rule, for example a program that is too long. */
export class InvalidRequestError extends RefusedError {
  override readonly code = "invalid_request";
}

/** A program cannot be parked, or what it was parked as cannot be woken here. */
export class ParkError extends RefusedError {
  override readonly code = "park";
}

/** There is no such cell, or its result was returned before. */
export class CellNotFoundError extends CellblockError {
  override readonly code: string = "cell_not_found";
}

/** The cell ran in a host that has ended since. */
export class StaleCellError extends CellNotFoundError {
  override readonly code = "stale_cell";
}

/** The session was closed. */
export class SessionClosedError extends CellblockError {
  override readonly code = "session_closed";
}

/** A value cannot be written as JSON without losing something; the text says which part. */
export class NotJsonError extends CellblockError {
  override readonly code = "not_json";
}

/** Something given as a tool cannot be one; the text says why. */
export class ToolDefinitionError extends CellblockError {
  override readonly code = "tool_definition";
}

/** A program failed: thrown by `Result.check`. */
export class ProgramError extends CellblockError {
  override readonly code: string = "program_failed";
}

/** A program reached a limit: thrown by `Result.check`. */
export class LimitError extends ProgramError {
  override readonly code = "limit_reached";
}

/** A program was terminated: thrown by `Result.check`. */
export class TerminatedError extends ProgramError {
  override readonly code = "terminated";
}
