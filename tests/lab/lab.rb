# What the lab's machines are: read from VagrantConfig.yaml, completed with defaults, and written
# for the node in the form it is given: a disk or CD that holds a tar archive with `bramble.toml`
# and, for machines that vote, `founding.bramble`.
#
# Asks no hypervisor and starts nothing but `bramble cluster new`.

require 'fileutils'
require 'ipaddr'
require 'json'
require 'net/http'
require 'open3'
require 'rubygems/package'
require 'stringio'
require 'yaml'

module Lab
  # Something in the file that cannot be meant.
  class Mistake < StandardError; end

  # A machine's type, and in which role its node runs. `boot` was the machine that installed the
  # others.
  ROLES = {
    'full' => 'auto', 'master' => 'master', 'agent-private' => 'agent', 'agent-public' => 'agent'
  }.freeze
  UNNECESSARY = 'boot'
  KEYS = %w[ip cpus memory memory-reserved type aliases].freeze
  # Whom agent-public machines take apps of: Mesos' word for it.
  PUBLIC_ROLE = 'slave_public'
  CLUSTER = 'lab'
  CPUS = 1
  MEMORY_MIB = 256
  # Less, and the kernel has no room to unpack itself.
  MEMORY_MIB_MIN = 128
  PREFIX_BITS = 24
  # Where addresses that nobody gave are taken from, and the network where nobody gave any.
  NETWORK = '192.168.57'
  FREE_FROM = 200
  # The first card is the hypervisor's own; this one leads to the other machines.
  CARD = 'eth1'
  # A CD's sector in bytes.
  SECTOR = 2048

  Machine = Struct.new(:name, :ip, :cpus, :memory, :reserved, :type, :aliases, keyword_init: true) do
    def role
      ROLES.fetch(type)
    end

    # A master may found the cluster; of several that stand, they agree on one.
    def founds?
      role != 'agent'
    end

    def public?
      type == 'agent-public'
    end

    # The node's `bramble.toml`.
    def settings(token)
      lines = ["hostname = #{Lab.quoted(name)}", "cluster = #{Lab.quoted(CLUSTER)}",
               "token = #{Lab.quoted(token)}", "role = #{Lab.quoted(role)}"]
      attributes = { 'type' => type }
      attributes['aliases'] = aliases.join(',') unless aliases.empty?
      pairs = attributes.map { |key, value| "#{key} = #{Lab.quoted(value)}" }
      lines << "attributes = { #{pairs.join(', ')} }"
      lines += ['', '[network]', "interface = #{Lab.quoted(CARD)}",
                "address = #{Lab.quoted("#{ip}/#{PREFIX_BITS}")}"]
      # A lab on a network of its own, for plain curl.
      lines += ['', '[bramble]', 'open-api = true']
      lines << "resources = \"mem:#{memory - reserved}\"" if reserved.positive? && role != 'master'
      "#{lines.join("\n")}\n"
    end
  end

  module_function

  # Text as TOML writes it; nothing in a lab's settings has control characters.
  def quoted(text)
    "\"#{text.gsub(/["\\]/) { |c| "\\#{c}" }}\""
  end

  # The machines of a file, in its order.
  def read(path)
    parse(File.read(path), path)
  rescue SystemCallError => e
    raise Mistake, "the lab's machines: #{e.message}"
  end

  def parse(text, path)
    data = YAML.safe_load(text)
    raise Mistake, "#{path}: write one machine a line, for example `m1: {type: master}`" unless
      data.is_a?(Hash) && !data.empty?

    machines = data.map { |name, given| machine(name.to_s, given || {}, path) }
    machines.reject! { |one| one.type == UNNECESSARY }
    give_addresses(machines, path)
  rescue Psych::Exception => e
    raise Mistake, "#{path}: #{e.message}"
  end

  # See to it that every machine has an address, and that all can hear each other.
  def give_addresses(machines, path)
    given = machines.map(&:ip).compact
    twice = given.tally.find { |_, times| times > 1 }
    raise Mistake, "#{path}: ip #{twice[0]} is given to two machines" if twice

    networks = given.map { |ip| ip[/\A.*(?=\.)/] }.uniq
    raise Mistake, "#{path}: the machines find each other in one network only, and these are in " \
                   "#{networks.map { |one| "#{one}.0" }.join(' and ')}" if networks.size > 1

    network = networks[0] || NETWORK
    free = (FREE_FROM..254).map { |n| "#{network}.#{n}" } - given
    machines.each do |one|
      one.ip ||= free.shift || raise(Mistake, "#{path}: no address is left for #{one.name}")
    end
  end

  def machine(name, given, path)
    place = "#{path}: #{name}"
    wrong = ->(key, form) { raise Mistake, "#{place}: #{key} is #{given[key].inspect}; #{form}" }
    raise Mistake, "#{place}: a name has letters, digits and '-', 63 at most" unless
      name.match?(/\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z/i)
    raise Mistake, "#{place}: write {key: value, ...}" unless given.is_a?(Hash)

    unknown = given.keys.map(&:to_s) - KEYS
    raise Mistake, "#{place}: unknown key #{unknown[0]}; there are #{KEYS.join(', ')}" unless
      unknown.empty?

    count = lambda do |key, default, least|
      value = given.fetch(key, default)
      wrong.call(key, "write a number of at least #{least}") unless
        value.is_a?(Integer) && value >= least
      value
    end
    type = given.fetch('type', 'full')
    wrong.call('type', "write one of #{ROLES.keys.join(', ')}") unless
      ROLES.key?(type) || type == UNNECESSARY
    wrong.call('ip', 'write an IPv4 address') unless given['ip'].nil? || ipv4?(given['ip'])
    aliases = given.fetch('aliases', [])
    names = aliases.is_a?(Array) && aliases.all? { |one| one.to_s.match?(/\A[a-z0-9.-]+\z/i) }
    wrong.call('aliases', 'write a list of host names') unless names
    memory = count.call('memory', MEMORY_MIB, MEMORY_MIB_MIN)
    reserved = count.call('memory-reserved', 0, 0)
    wrong.call('memory-reserved', "it must leave some of the #{memory} MiB") if reserved >= memory
    Machine.new(name: name, ip: given['ip'], cpus: count.call('cpus', CPUS, 1), memory: memory,
                reserved: reserved, type: type, aliases: aliases.map(&:to_s))
  end

  def ipv4?(text)
    IPAddr.new(text).ipv4? && !text.include?('/')
  rescue IPAddr::Error, NoMethodError, TypeError
    false
  end

  # Where a machine's settings lie; written by `prepare`.
  def medium(dir, name)
    File.join(dir, "#{name}.iso")
  end

  # Make the cluster's keys, once for the lab, and the settings of a machine.
  def prepare(dir, machine)
    FileUtils.mkdir_p(dir, mode: 0o700)
    founding = File.join(dir, "#{CLUSTER}.founding")
    token = File.join(dir, "#{CLUSTER}.token")
    unless File.exist?(founding) && File.exist?(token)
      said, status = Open3.capture2e(bramble, 'cluster', 'new', CLUSTER, '--out', dir)
      raise Mistake, "making the lab's keys: #{said}" unless status.success?
    end
    files = { 'bramble.toml' => machine.settings(File.read(token).strip) }
    files['founding.bramble'] = File.read(founding) if machine.founds?
    path = medium(dir, machine.name)
    File.open(path, 'wb', 0o600) { |file| file.write(archive(files)) }
    path
  end

  # A tar archive as long as a CD's sectors are.
  def archive(files)
    out = StringIO.new(String.new(encoding: Encoding::BINARY))
    Gem::Package::TarWriter.new(out) do |tar|
      files.each do |name, text|
        tar.add_file_simple(name, 0o600, text.bytesize) { |entry| entry.write(text) }
      end
    end
    out.string + "\0".b * (-out.string.bytesize % SECTOR)
  end

  # The program that makes the keys: $BRAMBLE, else what `make build` made, else the one in PATH.
  def bramble
    given = ENV.fetch('BRAMBLE', '')
    return given unless given.empty?

    built = File.expand_path('../../target/bramble-path', __dir__)
    path = File.exist?(built) ? File.expand_path(File.read(built).strip, "#{__dir__}/../..") : ''
    return path if File.executable?(path)

    found = ENV.fetch('PATH', '').split(':').map { |dir| File.join(dir, 'bramble') }
    found.find { |file| File.executable?(file) } ||
      raise(Mistake, "bramble is not here: run `make build`, or name it with BRAMBLE=FILE; " \
                     "it makes the lab's keys")
  end

  # Give the role to those agent-public machines that the cluster knows; says which. With no
  # cluster that answers yet, none.
  def give_roles(machines, port: 8080, seconds: 2)
    api = machines.find { |one| agents(one.ip, port, seconds) }
    return [] unless api

    known = agents(api.ip, port, seconds) || []
    given = machines.select(&:public?).select do |machine|
      agent = known.find { |one| one['name'] == machine.name }
      agent && !agent['roles'].include?(PUBLIC_ROLE)
    end
    given.map(&:name).select do |name|
      ask(api.ip, port, seconds) do |http|
        http.patch("/v1/bramble/agents/#{name}", { roles: [PUBLIC_ROLE] }.to_json,
                   'Content-Type' => 'application/json')
      end
    end
  end

  def agents(ip, port, seconds)
    answer = ask(ip, port, seconds) { |http| http.get('/v1/bramble/agents') }
    answer && JSON.parse(answer.body)
  rescue JSON::ParserError
    nil
  end

  # The answer, if it is a success.
  def ask(ip, port, seconds, &request)
    answer = Net::HTTP.start(ip, port, open_timeout: seconds, read_timeout: seconds, &request)
    answer if answer.is_a?(Net::HTTPSuccess)
  rescue SystemCallError, IOError, Timeout::Error, Net::HTTPBadResponse
    nil
  end
end
