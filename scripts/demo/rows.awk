# The shop's rows, one INSERT each, as an application would send them. Each names its user's id, so each goes to one shard.
BEGIN {
  split("AT BR CA FR JP NG", countries, " ")
  split("Ada Bela Chi Dana Eli Fay Gus Hana Ivo Jun", names, " ")
  split("lamp chair table kettle rug clock shelf mirror", products, " ")
  srand(7)
  print "\\set ON_ERROR_STOP on"
  for (user = 1; user <= users; user++) {
    printf "insert into users (id, name, country) values (%d, '%s %d', '%s');\n", user, names[user % 10 + 1], user, countries[user % 6 + 1]
    print "begin;"
    for (order = 1; order <= user % 3 + 1; order++) {
      printf "insert into orders (user_id, id, placed) values (%d, %d, '2024-%02d-%02d');\n", user, order, user % 12 + 1, order * 7
      for (line = 1; line <= 2; line++)
        printf "insert into order_items values (%d, %d, %d, '%s', %.2f);\n", user, order, line, products[int(rand() * 8) + 1], 5 + rand() * 95
      printf "update orders set total = (select sum(price) from order_items where user_id = %d and order_id = %d) where user_id = %d and id = %d;\n",
        user, order, user, order
    }
    print "commit;"
  }
}
