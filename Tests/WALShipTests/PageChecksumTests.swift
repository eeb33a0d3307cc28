import Testing

@testable import WALShip

/// The input of the vectors below, which python-xxhash 4.1.0 (libxxhash 0.8.4) made.
private func ramp(_ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + 3) }
}

private func hash(_ bytes: [UInt8], seed: UInt64) -> UInt64 {
  bytes.withUnsafeBytes { xxh64($0, seed: seed) }
}

private func checksum(_ page: [UInt8], pgno: UInt32) -> UInt64 {
  page.withUnsafeBytes { pageChecksum($0, pgno: Pgno(pgno)) }
}

@Test func xxh64GivesThePublishedVectors() {
  #expect(hash([], seed: 0) == 0xEF46_DB37_51D8_E999)
  #expect(hash(Array("abc".utf8), seed: 0) == 0x44BC_2CF5_AD77_0999)
  #expect(xxh64(UnsafeRawBufferPointer(start: nil, count: 0), seed: 0) == 0xEF46_DB37_51D8_E999)
}

@Test(
  arguments: [
    (1, 0x1F25_C8D0_BC1F_4BB6, 0x610F_93F8_C898_89FE, 0x7982_6BCD_749D_267A),
    (3, 0x31D2_363F_52E5_64C9, 0x2D80_E074_130D_0176, 0x78EF_D775_75E2_6575),
    (4, 0x9BB6_4B7D_66EE_9FDA, 0x5EC9_FDD1_0FCB_CB0E, 0x6F0A_6C97_D68B_F353),
    (7, 0x9A7B_1499_59CE_60D8, 0xD8B4_A941_715F_EE31, 0xD97E_DE93_C9D6_6A0D),
    (8, 0xDAB9_9D95_C6F9_0092, 0xF119_F5B2_6C00_20AB, 0xA2F1_E284_37A7_8A1B),
    (12, 0xD52E_4078_33AF_5133, 0x3785_1F0D_89D2_3966, 0xBCC9_F0D6_16FF_9A7B),
    (31, 0xA2AA_5F33_CC4A_6119, 0xAACA_4E41_FFCA_E21C, 0x7554_3727_1D1D_0A84),
    (32, 0x23C3_C17E_F790_FD97, 0x7421_B79A_02B4_2132, 0xBF62_4B93_2C09_0428),
    (33, 0x50A7_CFC7_BA58_8784, 0x17B3_DF31_3DE9_A40E, 0x7ACE_AF1E_9D34_EA35),
    (63, 0x5E3E_54B4_31C7_493C, 0xB1AB_B4A5_AD0E_2943, 0x2C8D_DCE5_C85D_0D9D),
    (64, 0x0EB6_4B3E_F6EE_B01F, 0x2D04_5794_0C5A_93F4, 0x4AF3_41F1_4E3A_6FC9),
    (100, 0xA61F_8D4C_170F_E531, 0x8D89_57E6_8F02_C7CE, 0xF6D8_F65C_625A_BB4F),
    (4096, 0x7963_98CD_4327_97CC, 0x2215_4CB5_A9B7_BBEF, 0xC12F_9891_3FE0_F03D),
  ] as [(Int, UInt64, UInt64, UInt64)])
func xxh64AgreesWithTheReferenceLibrary(
  count: Int, unseeded: UInt64, seededWith1: UInt64, seededWithGolden: UInt64
) {
  #expect(hash(ramp(count), seed: 0) == unseeded)
  #expect(hash(ramp(count), seed: 1) == seededWith1)
  #expect(hash(ramp(count), seed: 0x9E37_79B9_7F4A_7C15) == seededWithGolden)
}

@Test(
  arguments: [
    (512, 0x8966_5F39_DCC2_11D2, 0xF66C_7015_F825_0A14),
    (4096, 0x61D9_D183_B7E1_67B5, 0x60DE_4715_7BFB_95AE),
    (65536, 0x1376_B152_9D64_41FE, 0x474C_B155_24A9_4BFB),
  ] as [(Int, UInt64, UInt64)])
func pageChecksumIsXXH64SeededWithThePageNumber(size: Int, page2: UInt64, page1: UInt64) {
  #expect(checksum(ramp(size), pgno: 2) == page2)
  #expect(checksum(ramp(size), pgno: 1) == page1)
}

@Test func checksumOfPage1IgnoresTheReplicaStampAndNothingElse() {
  let page = ramp(512)
  for offset in page.indices {
    var changed = page
    changed[offset] ^= 0x40
    let isStamp =
      offset == ReplicaStamp.writeVersionOffset || ReplicaStamp.range.contains(offset)
    #expect((checksum(changed, pgno: 1) == checksum(page, pgno: 1)) == isStamp)
    #expect(checksum(changed, pgno: 2) != checksum(page, pgno: 2))
  }
}

@Test func togglingAPageTwiceLeavesTheDatabaseChecksum() {
  var database = DatabaseChecksum(5)
  database.toggle(checksum(ramp(512), pgno: 3))
  #expect(database != DatabaseChecksum(5))
  database.toggle(checksum(ramp(512), pgno: 3))
  #expect(database == DatabaseChecksum(5))
}
