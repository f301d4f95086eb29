# A communicator for machines that nobody logs in to: the first process of a node's image is
# bramble's own, and there is no ssh in it. Vagrant starts, stops and removes them; what they are
# told lies on the settings medium.

module Lab
  class NoCommunicator < Vagrant.plugin('2', :communicator)
    def self.match?(_machine)
      true
    end

    def ready?
      true
    end

    def wait_for_ready(_timeout)
      true
    end

    def execute(_command, _options = nil)
      0
    end

    def sudo(_command, _options = nil)
      0
    end

    # Nothing is found out about the guest this way.
    def test(_command, _options = nil)
      false
    end

    def upload(_from, _to); end

    def download(_from, _to); end

    def reset!; end
  end

  class Plugin < Vagrant.plugin('2')
    name 'machines without ssh'
    communicator(:none) { NoCommunicator }
  end
end
