@main struct EdgeSQL { static func main() {} }
