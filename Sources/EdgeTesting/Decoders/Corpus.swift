// Inputs that decoders are known to take, recorded from real traffic: `Fuzz/Corpus`, with a folder
// for each check.

/// The checked-in seeds.
public enum Corpus {
  /// The folder of this repository, from where this file is.
  private static let repository = #filePath.split(separator: "/").dropLast(4)
  public static let folder = "/" + (repository + ["Fuzz", "Corpus"]).joined(separator: "/")

  /// The seeds of a check, in the order of their names.
  public static func seeds(of check: DecoderCheck) throws -> [[UInt8]] {
    let folder = "\(folder)/\(check.name)"
    return try Files.names(in: folder).map { try Files.read("\(folder)/\($0)") }
  }
}
