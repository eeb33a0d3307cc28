// What claims mean: those of sqld as sqld has them, and nothing that is not understood.

import Access
import EdgeTesting
import Serving
import Testing

@Suite struct TokenClaimsTests {
  private func read(_ json: String) -> AccessRights? {
    (try? TokenClaims(json: Array(json.utf8)))?.rights
  }

  @Test func rightsAsSqldHasThem() throws {
    let expected: [(String, AccessLevel, AccessLevel)] = [
      // The rights for the database x, and for any other.
      ("{}", .write, .write),
      (#"{"a":"ro"}"#, .read, .read),
      (#"{"a":"rw"}"#, .write, .write),
      (#"{"a":"roa"}"#, .read, .read),
      (#"{"a":"admin"}"#, .admin, .admin),
      (#"{"id":"x"}"#, .write, .none),
      (#"{"id":"x","a":"ro"}"#, .read, .none),
      (#"{"id":"x","a":"admin"}"#, .admin, .none),
      (#"{"p":{}}"#, .none, .none),
      (#"{"p":{"ro":{"ns":["x"]}}}"#, .read, .none),
      (#"{"p":{"rw":{"ns":["x","y"]}}}"#, .write, .none),
      (#"{"p":{"ro":{"ns":["x"]},"rw":{"ns":["x"]}}}"#, .write, .none),
      (#"{"p":{"roa":{"ns":["x"]},"rwa":{"ns":["y"]}}}"#, .read, .none),
      (#"{"p":{"ddl":{"ns":["x"]}}}"#, .write, .none),
      (#"{"p":{"admin":{"ns":["x"]}}}"#, .admin, .none),
      // With "p", the others say nothing.
      (#"{"a":"admin","id":"x","p":{"ro":{"ns":["x"]}}}"#, .read, .none),
      (#"{"id":"foobar","a":"ro","p":{"rw":{"ns":["foo"]},"roa":{"ns":["bar"]}}}"#, .none, .none),
      // Databases have no tags here.
      (#"{"p":{"rw":{"tags":["all"]}}}"#, .none, .none),
      (#"{"p":{"rw":null,"ro":{"ns":null}}}"#, .none, .none),
      // There are no patterns.
      (#"{"p":{"rw":{"ns":["*"]}}}"#, .none, .none),
      (#"{"aud":"edge-sql","jti":"1","iss":"me","a":"ro"}"#, .read, .read),
      (#"{"aud":["other","edge-sql"],"a":"ro"}"#, .read, .read),
    ]
    for (json, named, others) in expected {
      let rights = try #require(read(json), "\(json)")
      #expect(rights.level(for: "x") == named, "\(json)")
      #expect(rights.level(for: "another") == others, "\(json)")
    }
  }

  @Test(arguments: [
    #"{"a":"root"}"#, #"{"a":""}"#, #"{"a":null}"#, #"{"a":["rw"]}"#, #"{"a":"RW"}"#,
    #"{"p":null}"#, #"{"p":[]}"#, #"{"p":"rw"}"#, #"{"p":{"all":{"ns":["x"]}}}"#,
    #"{"p":{"rw":["x"]}}"#, #"{"p":{"rw":{"ns":"x"}}}"#, #"{"p":{"rw":{"ns":[1]}}}"#,
    #"{"p":{"ro":{"ns":["x"],"groups":["y"]}}}"#, #"{"p":{"ro":{"ns":["x"]}},"p":{}}"#,
    #"{"p":{"ro":{},"ro":{"ns":["x"]}}}"#, #"{"a":"ro","a":"rw"}"#, #"{"id":7}"#, #"{"id":null}"#,
    #"{"exp":"soon"}"#, #"{"exp":null}"#, #"{"exp":1e300}"#, #"{"nbf":true}"#, #"{"aud":"other"}"#,
    #"{"aud":[]}"#, #"{"aud":null}"#, #"{"scope":"ro"}"#, #"{"a":"ro","scp":["rw"]}"#,
    #"{"roles":["admin"]}"#, "[]", "7", "null", "", "{", #"{"a":"ro"} "# + "x",
  ])
  func whatIsNotUnderstoodGivesNothing(_ json: String) {
    #expect(read(json) == nil)
  }

  @Test func claimsComeBack() throws {
    var rights = AccessRights(subject: "a \"b\"")
    rights.databases = ["x": .read, "y": .write, "z": .admin, "w": .read]
    let claims = TokenClaims(rights: rights, expires: 9, notBefore: 2, issued: 1)
    #expect(try TokenClaims(json: Array(claims.json.utf8)) == claims)
    for level in [AccessLevel.read, .write, .admin] {
      let claims = TokenClaims(rights: AccessRights(anyDatabase: level))
      #expect(try TokenClaims(json: Array(claims.json.utf8)) == claims)
    }
    // No right at all is not the same as not saying.
    let none = TokenClaims(rights: AccessRights())
    #expect(try TokenClaims(json: Array(none.json.utf8)).rights == AccessRights())
  }
}
