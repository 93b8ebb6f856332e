//! Knobs of balancing: what the cluster moves by itself. Kafka has no counterpart.

use super::prelude::*;

knobs! { BALANCING: "Balancing",
    "corelane.balance.enable", Boolean, "true", Any, Cluster, Honoured,
        "Replicas and preferred leaders even out by themselves after nodes have come or gone, \
         and what was on a node that is gone is rebuilt on others. A partition that an operator \
         moves is left alone until it has arrived; later it may move again if numbers are \
         uneven, so switch this off to place partitions by hand.";
    "corelane.balance.moves.max", Int, "8", Between(1, 10000), Cluster, Honoured,
        "Partitions that are on their way at once, in the whole cluster. What operators move \
         counts too, but is never held back.";
    "corelane.balance.node.gone.ms", Long, "900000", AtLeast(1000), Cluster, Honoured,
        "A node that is not heard of for so long is not waited for any more: its replicas are \
         rebuilt on other nodes, where there are enough. Longer than a restart or a repair \
         takes, since every byte is copied.";
    "corelane.balance.disk.full.percent", Int, "85", Between(10, 100), Cluster, Honoured,
        "A node whose disk is in use by more than this share gets no replicas from the \
         balancing, and of new partitions only if there are no other nodes; its largest \
         partitions go to nodes that have room. It gets replicas again when it is ten points \
         below. 100: never.";
    "corelane.nodes.leaving", List, "", Distinct, Cluster, Honoured,
        "Nodes that leave: nothing is placed on them, what they hold goes to others, and they \
         are let go when they hold nothing. Set by corelane cluster decommission while the \
         cluster runs; not to be set at start.";
}
