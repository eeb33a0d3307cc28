// How a command ends: one sentence on standard error and a code that scripts can rely on.
// The numbers are those of sysexits.h where it has one; the argument parser already uses its 64.

import ArgumentParser

/// The exit codes of every command.
///
/// Source: docs/CLI.md and sysexits(3)
enum ExitStatus: Int32, Sendable {
  case ok = 0
  case failed = 1
  /// `status --check` got its answer, and the answer is no.
  case checkNotMet = 3
  case usage = 64
  case corruptData = 65
  case unavailable = 69
  case cannotCreate = 73
  case inputOutput = 74
  /// A timeout, or no primary: trying again later may help.
  case temporary = 75
  case auth = 77
  case configuration = 78
}

/// A failure that ends a command.
struct CommandFailure: Error, Equatable, Sendable, CustomStringConvertible {
  var status: ExitStatus
  /// One sentence without a full stop at its end.
  var message: String
  /// What the user can do about it.
  var hint: String?

  init(_ status: ExitStatus, _ message: String, hint: String? = nil) {
    self.status = status
    self.message = message
    self.hint = hint
  }

  var description: String {
    hint.map { "\(message)\n  \($0)" } ?? message
  }
}

/// An error that knows with which code the program ends because of it.
protocol FailureConvertible: Error {
  var failure: CommandFailure { get }
}

extension CommandFailure: FailureConvertible {
  var failure: CommandFailure { self }
}

/// Runs the body of a command: a failure is told on standard error and becomes the exit code.
func reportingFailures(_ body: () throws -> Void) throws {
  do {
    try body()
  } catch let error as any FailureConvertible {
    throw reported(error.failure)
  }
}

/// The same for a command that is asynchronous.
func reportingFailures(
  isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Void
) async throws {
  do {
    try await body()
  } catch let error as any FailureConvertible {
    throw reported(error.failure)
  }
}

private func reported(_ failure: CommandFailure) -> ExitCode {
  Console.error.write(Console.error.red("edge-sql:") + " \(failure)\n")
  return ExitCode(failure.status.rawValue)
}
