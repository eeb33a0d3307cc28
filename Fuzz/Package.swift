// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "edge-sql-fuzz",
  dependencies: [
    .package(name: "edge-sql", path: "..")
  ],
  targets: [
    .executableTarget(
      name: "fuzz",
      dependencies: [.product(name: "EdgeTesting", package: "edge-sql")],
      // The fuzzer's library has no main of its own here, and gold cannot link it.
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])])
  ],
  swiftLanguageModes: [.v6]
)
