// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "edge-sql-benchmarks",
  dependencies: [
    .package(name: "edge-sql", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
  ],
  targets: [
    .target(
      name: "CFloor",
      linkerSettings: [.linkedLibrary("sqlite3")]),
    .target(name: "CLoad"),
    .executableTarget(
      name: "edge-sql-benchmarks",
      dependencies: [
        "CFloor", "CLoad",
        .product(name: "WALShip", package: "edge-sql"),
        .product(name: "Store", package: "edge-sql"),
        .product(name: "Serving", package: "edge-sql"),
        .product(name: "Primary", package: "edge-sql"),
        .product(name: "Replica", package: "edge-sql"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: [.enableUpcomingFeature("NonisolatedNonsendingByDefault")]),
  ],
  swiftLanguageModes: [.v6]
)
