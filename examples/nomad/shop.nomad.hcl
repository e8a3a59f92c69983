# One colour of the app, which goes live by itself when it is well.
#
#   nomad job run -var colour=green -var version=v42 shop.nomad.hcl
#
# Each colour is a job of its own (shop-blue, shop-green), so that the old one runs on until it is stopped.

variable "colour" {
  type = string
}

variable "version" {
  type = string
}

job "shop" {
  id          = "shop-${var.colour}"
  name        = "shop-${var.colour}"
  datacenters = ["dc1"]

  group "shop" {
    # On the switching host, whose agent the task below asks.
    constraint {
      attribute = "${meta.switcher}"
      value     = "true"
    }

    network {
      port "http" {
        static = var.colour == "blue" ? 8443 : 9444
      }
    }

    task "web" {
      driver = "docker"

      config {
        image        = "registry.example/shop:${var.version}"
        network_mode = "host"
        args         = ["--listen", "203.0.113.10:${NOMAD_PORT_http}"]
      }
    }

    task "flip" {
      driver = "raw_exec"

      lifecycle {
        hook    = "poststart"
        sidecar = false
      }

      # Nothing is tried again but what was not even begun.
      restart {
        attempts = 0
        mode     = "fail"
      }

      env {
        GROUP   = "shop"
        COLOUR  = "${var.colour}"
        VERSION = "${var.version}"
      }

      template {
        destination = "local/flip.sh"
        perms       = "0755"
        data        = <<-EOF
          #!/bin/sh
          set -eu
          switcher stage "$GROUP" "$COLOUR" --version "$VERSION"
          switcher wait "$GROUP" --for "healthy=$COLOUR" --timeout 2m
          switcher flip "$GROUP" "$COLOUR" --idempotency-key "nomad-$NOMAD_ALLOC_ID" \
              --reason "$VERSION, allocation $NOMAD_ALLOC_ID"
        EOF
      }

      config {
        command = "/bin/sh"
        args    = ["local/flip.sh"]
      }
    }
  }
}
