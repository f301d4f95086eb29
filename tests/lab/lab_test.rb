# What lab.rb makes of a file, and of bad ones. With BRAMBLE set also what it asks that program for.

require_relative 'lab'
require 'tmpdir'

def check(what, holds)
  return if holds

  warn "lab_test: #{what}"
  exit 1
end

def read(text)
  Lab.parse(text, 'f.yaml')
end

# A missing key defaults, in every form of a machine.
one, two, four = read("m1:\na1: {type: agent-private, ip: 10.1.2.200}\nb0: {type: boot}\nm4: {}\n")
check 'defaults', one.to_h == { name: 'm1', ip: '10.1.2.201', cpus: 1, memory: 256, reserved: 0,
                                type: 'full', aliases: [] }
check 'given ones', [two.ip, two.role, two.founds?] == ['10.1.2.200', 'agent', false]
check 'the rest', [four.name, four.ip, four.role, four.founds?] == ['m4', '10.1.2.202', 'auto', true]
check 'no address given', read('m1: {}')[0].ip == '192.168.57.200'

# Every mistake is named with its place and what to write.
{
  '' => 'f.yaml', '[1]' => 'm1: {type: master}', 'm1: [1]' => 'm1: write {key',
  'm_1: {}' => 'm_1: a name', 'm1: {colour: red}' => 'unknown key colour; there are ip',
  'm1: {ip: 1.2.3}' => 'ip is "1.2.3"', 'm1: {ip: 7}' => 'ip is 7', 'm1: {ip: 1.2.3.0/24}' => 'ip',
  'm1: {cpus: 0}' => 'cpus is 0; write a number', 'm1: {cpus: many}' => 'cpus',
  'm1: {memory: 64}' => 'at least 128', 'm1: {memory-reserved: 256}' => 'leave some of the 256',
  'm1: {type: slave}' => 'one of full, master', 'm1: {aliases: x}' => 'aliases',
  "a: {ip: 10.0.0.2}\nb: {ip: 10.0.0.2}" => '10.0.0.2 is given to two',
  "a: {ip: 10.0.0.2}\nb: {ip: 10.0.1.2}" => '10.0.0.0 and 10.0.1.0', "a: {\n" => 'f.yaml'
}.each do |text, want|
  said = begin
    read(text).inspect
  rescue Lab::Mistake => e
    e.message
  end
  check "#{text.inspect} says #{said.inspect}", said.include?(want) && said.include?('f.yaml')
end

# What a node is told.
p1 = read('p1: {ip: 10.0.0.9, memory: 512, memory-reserved: 128, type: agent-public, ' \
          'aliases: [a.test, b.test]}')[0]
want = <<~TOML
  hostname = "p1"
  cluster = "lab"
  token = "T"
  role = "agent"
  attributes = { type = "agent-public", aliases = "a.test,b.test" }

  [network]
  interface = "eth1"
  address = "10.0.0.9/24"

  [bramble]
  open-api = true
  resources = "mem:384"
TOML
check "settings are\n#{p1.settings('T')}", p1.settings('T') == want
packed = Lab.archive('bramble.toml' => want, 'founding.bramble' => "x\n" * 3000)
check 'whole sectors', (packed.bytesize % Lab::SECTOR).zero? && packed[257, 5] == 'ustar'
entries = Gem::Package::TarReader.new(StringIO.new(packed)).map { |entry| [entry.full_name, entry.read] }
check 'the archive', entries == [['bramble.toml', want], ['founding.bramble', "x\n" * 3000]]

# The example is right, and of its machines those that vote may found.
machines = Lab.read(File.join(__dir__, 'VagrantConfig.yaml'))
check 'the example', machines.map(&:name) == %w[m1 m2 m3 a1 a2 p1]
check 'nobody answers', Lab.give_roles([Lab::Machine.new(ip: '127.0.0.1')], port: 9, seconds: 1) == []
unless ENV.fetch('BRAMBLE', '').empty?
  Dir.mktmpdir do |dir|
    founder, agent = [machines[0], machines[3]].map do |machine|
      path = Lab.prepare(dir, machine)
      check 'private', (File.stat(path).mode & 0o777) == 0o600
      File.open(path, 'rb') { |file| Gem::Package::TarReader.new(file).to_h { |e| [e.full_name, e.read] } }
    end
    token = File.read(File.join(dir, 'lab.token')).strip
    check 'the token', [founder, agent].all? { |one| one['bramble.toml'].include?(token) }
    check 'the founding file', founder['founding.bramble'].include?(token) && agent.size == 1
    check 'the same keys again', File.binread(Lab.prepare(dir, machines[0])).include?(token)
  end
end
puts 'lab_test: ok'
