// `edge-sql shell`: a prompt on a node, or a script from a pipe.

import ArgumentParser
import Glibc
import Serving

struct ShellCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shell",
    abstract: "Type SQL and commands to a node.",
    discussion: """
      The prompt tells the role of the node and, on a replica, how far it is behind. .help lists \
      the commands. When standard input is not a terminal its lines are run without a prompt, and \
      the exit code is 1 if any of them failed.
      """)

  @Argument(help: "The node: HOST:PORT.") var address: String?
  @Option(help: "How to print: table, json (the node's own lines) or csv.")
  var mode = OutputMode.table
  @OptionGroup var client: ClientOptions

  func run() throws {
    try reportingFailures {
      var settings = try client.settings(address: address)
      let isInteractive = isatty(STDIN_FILENO) == 1 && Console.output.isTerminal
      settings.isInterruptible = isInteractive
      if isInteractive { Interrupt.block() }
      let session = ShellSession(settings, mode: mode)
      try session.connect()
      if isInteractive {
        Self.converse(session)
      } else {
        Self.runScript(session)
        if session.hasFailed { throw ExitCode(ExitStatus.failed.rawValue) }
      }
    }
  }

  private static func converse(_ session: ShellSession) {
    Console.output.write("edge-sql \(SoftwareVersion.current), .help for help\n")
    let history = History(path: History.defaultPath)
    let editor = LineEditor(terminal: Terminal(), history: history, completions: completions)
    var entry = ""
    while !session.isDone {
      if !session.isPending { entry = "" }
      switch editor.readLine(prompt: session.prompt()) {
      case .line(let line):
        entry += (entry.isEmpty ? "" : "\n") + line
        session.take(line)
        if !session.isPending { history.add(entry.trimmed) }
        // Ctrl-C at the end of a request that had just been answered is no wish of its own.
        _ = Interrupt.take()
      case .interrupted: session.discardPending()
      case .endOfInput: return
      }
    }
  }

  private static func runScript(_ session: ShellSession) {
    while !session.isDone, let line = readLine() { session.take(line) }
    session.finishInput()
  }

  /// Commands that begin with what was typed.
  private static func completions(_ head: String) -> [String] {
    let commands = [
      ".databases", ".exit", ".help", ".ints ", ".mode ", ".ping", ".quit", ".read ", ".schema",
      ".status", ".tables", ".timeout ", ".timer ", ".token", ".use ",
    ]
    return head.hasPrefix(".") ? commands.filter { $0.hasPrefix(head) } : []
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.last?.isWhitespace == true { text.removeLast() }
    while text.first?.isWhitespace == true { text.removeFirst() }
    return String(text)
  }
}
