// The version that `--version`, logs and status lines tell.

enum EdgeSQLVersion {
  static let current = "0.1.0"
}
